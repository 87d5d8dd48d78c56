#pragma once

#include <cstddef>
#include <cstdint>

// What we use of the kernel's <linux/vfio.h>: numbers and layouts that the kernel and every
// vfio-user peer agree on. Our own copy, so that the build does not depend on the host's headers.
// Names are the kernel's without the VFIO_ prefix, so that they can be looked up.
// @spec Linux 6.12 include/uapi/linux/vfio.h; vfio-user 0.1 carries the same structures
namespace runnel::vfio::uapi {

/// VFIO_DEVICE_FLAGS_*
namespace device_flags {
inline constexpr std::uint32_t reset = 1U << 0;  // the device can be reset
inline constexpr std::uint32_t pci = 1U << 1;    // regions and interrupts are numbered as PCI's
}  // namespace device_flags

/// VFIO_REGION_INFO_FLAG_*
namespace region_flags {
inline constexpr std::uint32_t read = 1U << 0;
inline constexpr std::uint32_t write = 1U << 1;
inline constexpr std::uint32_t mmap = 1U << 2;
inline constexpr std::uint32_t caps = 1U << 3;  // `cap_offset` begins a chain
}  // namespace region_flags

/// VFIO_REGION_INFO_CAP_*
namespace region_caps {
inline constexpr std::uint16_t sparse_mmap = 1;  // only these areas may be mapped
}  // namespace region_caps

/// VFIO_IRQ_INFO_*
namespace irq_flags {
inline constexpr std::uint32_t eventfd = 1U << 0;
inline constexpr std::uint32_t maskable = 1U << 1;
inline constexpr std::uint32_t automasked = 1U << 2;
inline constexpr std::uint32_t noresize = 1U << 3;  // disable all vectors before adding one
}  // namespace irq_flags

/// VFIO_IRQ_SET_*: exactly one DATA and one ACTION.
namespace irq_set_flags {
inline constexpr std::uint32_t data_none = 1U << 0;
inline constexpr std::uint32_t data_bool = 1U << 1;
inline constexpr std::uint32_t data_eventfd = 1U << 2;
inline constexpr std::uint32_t action_mask = 1U << 3;
inline constexpr std::uint32_t action_unmask = 1U << 4;
inline constexpr std::uint32_t action_trigger = 1U << 5;
inline constexpr std::uint32_t data_all = data_none | data_bool | data_eventfd;
inline constexpr std::uint32_t action_all = action_mask | action_unmask | action_trigger;
}  // namespace irq_set_flags

/// VFIO_DEVICE_FEATURE_*: the low 16 bits of the flags name the feature.
namespace feature_flags {
inline constexpr std::uint32_t feature_mask = 0xffff;
inline constexpr std::uint32_t get = 1U << 16;
inline constexpr std::uint32_t set = 1U << 17;
inline constexpr std::uint32_t probe = 1U << 18;
inline constexpr std::uint32_t all = feature_mask | get | set | probe;
}  // namespace feature_flags

/// struct vfio_device_info. vfio-user carries the first `device_info_bytes_min` of it.
struct device_info {
  std::uint32_t argsz;
  std::uint32_t flags;
  std::uint32_t num_regions;
  std::uint32_t num_irqs;
  std::uint32_t cap_offset;
  std::uint32_t pad;
};
static_assert(sizeof(device_info) == 24);
static_assert(offsetof(device_info, num_irqs) == 12);
inline constexpr std::size_t device_info_bytes_min = offsetof(device_info, cap_offset);

/// struct vfio_region_info; capabilities follow, offsets counted from its first byte.
struct region_info {
  std::uint32_t argsz;
  std::uint32_t flags;
  std::uint32_t index;
  std::uint32_t cap_offset;
  std::uint64_t size;
  std::uint64_t offset;  // where the region begins in its file
};
static_assert(sizeof(region_info) == 32);
static_assert(offsetof(region_info, cap_offset) == 12);
static_assert(offsetof(region_info, size) == 16);

/// struct vfio_info_cap_header: a link of the chain. `next` 0 ends it.
struct info_cap_header {
  std::uint16_t id;
  std::uint16_t version;
  std::uint32_t next;
};
static_assert(sizeof(info_cap_header) == 8);
static_assert(offsetof(info_cap_header, next) == 4);

/// struct vfio_region_info_cap_sparse_mmap, version 1; `nr_areas` areas follow.
struct region_info_cap_sparse_mmap {
  info_cap_header header;
  std::uint32_t nr_areas;
  std::uint32_t reserved;
};
static_assert(sizeof(region_info_cap_sparse_mmap) == 16);
static_assert(offsetof(region_info_cap_sparse_mmap, nr_areas) == 8);

/// struct vfio_region_sparse_mmap_area
struct region_sparse_mmap_area {
  std::uint64_t offset;
  std::uint64_t size;
};
static_assert(sizeof(region_sparse_mmap_area) == 16);

/// struct vfio_irq_info
struct irq_info {
  std::uint32_t argsz;
  std::uint32_t flags;
  std::uint32_t index;
  std::uint32_t count;
};
static_assert(sizeof(irq_info) == 16);
static_assert(offsetof(irq_info, count) == 12);

/// struct vfio_irq_set; data follows (none on vfio-user, which carries eventfds beside the bytes).
struct irq_set {
  std::uint32_t argsz;
  std::uint32_t flags;
  std::uint32_t index;
  std::uint32_t start;
  std::uint32_t count;
};
static_assert(sizeof(irq_set) == 20);
static_assert(offsetof(irq_set, count) == 16);

/// struct vfio_device_feature; the feature's own structure follows.
struct device_feature {
  std::uint32_t argsz;
  std::uint32_t flags;
};
static_assert(sizeof(device_feature) == 8);

}  // namespace runnel::vfio::uapi
