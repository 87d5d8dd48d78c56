#pragma once

#include <cstddef>
#include <cstdint>

// What we use of the kernel's <linux/vfio.h> about a device: numbers and layouts that the kernel
// and every vfio-user peer agree on. Our own copy, so that the build does not depend on the host's
// headers. Names are the kernel's without the VFIO_ prefix, so that they can be looked up. Beside
// it: features.h, type1.h (groups and containers), iommufd.h.
// @spec Linux 7.2 include/uapi/linux/vfio.h; vfio-user 0.1 carries the same structures
namespace runnel::vfio::uapi {

/// A VFIO_* ioctl by its distance from VFIO_BASE: _IO(';', 100 + number).
[[nodiscard]] consteval unsigned long vfio_ioctl(unsigned long number) {
  return 0x3b00UL + 100 + number;
}

/// VFIO_*: of a device's descriptor.
namespace ioctls {
inline constexpr unsigned long device_get_info = vfio_ioctl(7);
inline constexpr unsigned long device_get_region_info = vfio_ioctl(8);
inline constexpr unsigned long device_get_irq_info = vfio_ioctl(9);
inline constexpr unsigned long device_set_irqs = vfio_ioctl(10);
inline constexpr unsigned long device_reset = vfio_ioctl(11);
inline constexpr unsigned long device_get_pci_hot_reset_info = vfio_ioctl(12);
inline constexpr unsigned long device_pci_hot_reset = vfio_ioctl(13);
inline constexpr unsigned long device_ioeventfd = vfio_ioctl(16);
inline constexpr unsigned long device_feature = vfio_ioctl(17);
}  // namespace ioctls

/// VFIO_DEVICE_FLAGS_*
namespace device_flags {
inline constexpr std::uint32_t reset = 1U << 0;  // the device can be reset
inline constexpr std::uint32_t pci = 1U << 1;    // regions and interrupts are numbered as PCI's
inline constexpr std::uint32_t caps = 1U << 7;   // `cap_offset` begins a chain
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
inline constexpr std::uint16_t sparse_mmap = 1;    // only these areas may be mapped
inline constexpr std::uint16_t type = 2;           // of a region beyond the numbered ones
inline constexpr std::uint16_t msix_mappable = 3;  // the pages of the MSI-X table may be mapped too
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

/// struct vfio_region_info_cap_type, version 1
struct region_info_cap_type {
  info_cap_header header;
  std::uint32_t type;
  std::uint32_t subtype;
};
static_assert(sizeof(region_info_cap_type) == 16);

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

/// VFIO_PCI_HOT_RESET_FLAG_*: of hot_reset_info. Only descriptors of cdev see them.
namespace hot_reset_flags {
inline constexpr std::uint32_t dev_id = 1U << 0;        // devices are named by iommufd's ids
inline constexpr std::uint32_t dev_id_owned = 1U << 1;  // all are ours: the reset may be done
}  // namespace hot_reset_flags

/// VFIO_PCI_DEVID_*: what stands for an id where there is none.
inline constexpr std::uint32_t pci_devid_owned = 0;        // nobody has it, and its group is ours
inline constexpr std::uint32_t pci_devid_not_owned = ~0U;  // it may be somebody else's

/// struct vfio_pci_dependent_device
struct pci_dependent_device {
  std::uint32_t group_id;  // or iommufd's id of the device, see `hot_reset_flags`
  std::uint16_t segment;
  std::uint8_t bus;
  std::uint8_t devfn;
};
static_assert(sizeof(pci_dependent_device) == 8);
static_assert(offsetof(pci_dependent_device, devfn) == 7);

/// struct vfio_pci_hot_reset_info; `count` devices follow.
struct pci_hot_reset_info {
  std::uint32_t argsz;
  std::uint32_t flags;
  std::uint32_t count;
};
static_assert(sizeof(pci_hot_reset_info) == 12);

/// struct vfio_pci_hot_reset; the descriptors of `count` groups follow, of none with cdev.
struct pci_hot_reset {
  std::uint32_t argsz;
  std::uint32_t flags;
  std::uint32_t count;
};
static_assert(sizeof(pci_hot_reset) == 12);

/// VFIO_DEVICE_IOEVENTFD_*: width of the write, one of them.
namespace ioeventfd_flags {
inline constexpr std::uint32_t bits_8 = 1U << 0;
inline constexpr std::uint32_t bits_16 = 1U << 1;
inline constexpr std::uint32_t bits_32 = 1U << 2;
inline constexpr std::uint32_t bits_64 = 1U << 3;
}  // namespace ioeventfd_flags

/// struct vfio_device_ioeventfd: the kernel does this write when the eventfd fires.
struct device_ioeventfd {
  std::uint32_t argsz;
  std::uint32_t flags;
  std::uint64_t offset;  // in the device's file
  std::uint64_t data;
  std::int32_t fd;  // -1 ends it
  std::uint32_t reserved;
};
static_assert(sizeof(device_ioeventfd) == 32);
static_assert(offsetof(device_ioeventfd, fd) == 24);

/// struct vfio_device_feature; the feature's own structure follows.
struct device_feature {
  std::uint32_t argsz;
  std::uint32_t flags;
};
static_assert(sizeof(device_feature) == 8);

}  // namespace runnel::vfio::uapi
