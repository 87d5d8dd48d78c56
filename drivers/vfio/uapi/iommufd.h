#pragma once

#include <cstddef>
#include <cstdint>

// What we use of the kernel's <linux/iommufd.h>: address spaces (IOAS) and page tables (HWPT) as
// objects of a descriptor of /dev/iommu. Names are the kernel's without its prefixes. Every
// structure begins with its own size; a kernel takes a longer one whose tail is zero.
// @spec Linux 7.2 include/uapi/linux/iommufd.h
namespace runnel::vfio::uapi::iommufd {

/// IOMMU_*: _IO(';', number)
namespace ioctls {
inline constexpr unsigned long destroy = 0x3b80;
inline constexpr unsigned long ioas_alloc = 0x3b81;
inline constexpr unsigned long ioas_allow_iovas = 0x3b82;
inline constexpr unsigned long ioas_copy = 0x3b83;
inline constexpr unsigned long ioas_iova_ranges = 0x3b84;
inline constexpr unsigned long ioas_map = 0x3b85;
inline constexpr unsigned long ioas_unmap = 0x3b86;
inline constexpr unsigned long option = 0x3b87;
inline constexpr unsigned long vfio_ioas = 0x3b88;
inline constexpr unsigned long hwpt_alloc = 0x3b89;               // since 6.6
inline constexpr unsigned long get_hw_info = 0x3b8a;              // since 6.6
inline constexpr unsigned long hwpt_set_dirty_tracking = 0x3b8b;  // since 6.7
inline constexpr unsigned long hwpt_get_dirty_bitmap = 0x3b8c;    // since 6.7
inline constexpr unsigned long ioas_map_file = 0x3b8f;            // since 6.13
}  // namespace ioctls

/// struct iommu_destroy
struct destroy {
  std::uint32_t size;
  std::uint32_t id;
};
static_assert(sizeof(destroy) == 8);

/// struct iommu_ioas_alloc
struct ioas_alloc {
  std::uint32_t size;
  std::uint32_t flags;
  std::uint32_t out_ioas_id;
};
static_assert(sizeof(ioas_alloc) == 12);

/// struct iommu_iova_range
struct iova_range {
  std::uint64_t start;
  std::uint64_t last;
};
static_assert(sizeof(iova_range) == 16);

/// struct iommu_ioas_iova_ranges
struct ioas_iova_ranges {
  std::uint32_t size;
  std::uint32_t ioas_id;
  std::uint32_t num_iovas;  // in: room; out: how many there are
  std::uint32_t reserved;
  std::uint64_t allowed_iovas;  // points to `iova_range`s
  std::uint64_t out_iova_alignment;
};
static_assert(sizeof(ioas_iova_ranges) == 32);
static_assert(offsetof(ioas_iova_ranges, allowed_iovas) == 16);

/// struct iommu_ioas_allow_iovas
struct ioas_allow_iovas {
  std::uint32_t size;
  std::uint32_t ioas_id;
  std::uint32_t num_iovas;
  std::uint32_t reserved;
  std::uint64_t allowed_iovas;
};
static_assert(sizeof(ioas_allow_iovas) == 24);

/// enum iommufd_ioas_map_flags
namespace map_flags {
inline constexpr std::uint32_t fixed_iova = 1U << 0;
inline constexpr std::uint32_t writeable = 1U << 1;  // by the device
inline constexpr std::uint32_t readable = 1U << 2;
}  // namespace map_flags

/// struct iommu_ioas_map
struct ioas_map {
  std::uint32_t size;
  std::uint32_t flags;
  std::uint32_t ioas_id;
  std::uint32_t reserved;
  std::uint64_t user_va;
  std::uint64_t length;
  std::uint64_t iova;
};
static_assert(sizeof(ioas_map) == 40);
static_assert(offsetof(ioas_map, iova) == 32);

/// struct iommu_ioas_map_file
struct ioas_map_file {
  std::uint32_t size;
  std::uint32_t flags;
  std::uint32_t ioas_id;
  std::int32_t fd;
  std::uint64_t start;  // in the file
  std::uint64_t length;
  std::uint64_t iova;
};
static_assert(sizeof(ioas_map_file) == 40);
static_assert(offsetof(ioas_map_file, start) == 16);

/// struct iommu_ioas_copy
struct ioas_copy {
  std::uint32_t size;
  std::uint32_t flags;
  std::uint32_t dst_ioas_id;
  std::uint32_t src_ioas_id;
  std::uint64_t length;
  std::uint64_t dst_iova;
  std::uint64_t src_iova;
};
static_assert(sizeof(ioas_copy) == 40);

/// struct iommu_ioas_unmap
struct ioas_unmap {
  std::uint32_t size;
  std::uint32_t ioas_id;
  std::uint64_t iova;
  std::uint64_t length;  // out: how much was unmapped
};
static_assert(sizeof(ioas_unmap) == 24);
static_assert(offsetof(ioas_unmap, length) == 16);

/// enum iommufd_option and enum iommufd_option_ops
namespace options {
inline constexpr std::uint32_t rlimit_mode = 0;  // pinned pages count for the process, not the user
inline constexpr std::uint32_t huge_pages = 1;
inline constexpr std::uint16_t op_set = 0;
inline constexpr std::uint16_t op_get = 1;
}  // namespace options

/// struct iommu_option
struct option {
  std::uint32_t size;
  std::uint32_t option_id;
  std::uint16_t op;
  std::uint16_t reserved;
  std::uint32_t object_id;
  std::uint64_t val64;
};
static_assert(sizeof(option) == 24);
static_assert(offsetof(option, object_id) == 12);

/// enum iommufd_vfio_ioas_op
namespace vfio_ioas_ops {
inline constexpr std::uint16_t get = 0;
inline constexpr std::uint16_t set = 1;
inline constexpr std::uint16_t clear = 2;
}  // namespace vfio_ioas_ops

/// struct iommu_vfio_ioas: which IOAS the container's ioctls work on, on this descriptor
struct vfio_ioas {
  std::uint32_t size;
  std::uint32_t ioas_id;
  std::uint16_t op;
  std::uint16_t reserved;
};
static_assert(sizeof(vfio_ioas) == 12);

/// enum iommufd_hwpt_alloc_flags
namespace hwpt_flags {
inline constexpr std::uint32_t nest_parent = 1U << 0;
inline constexpr std::uint32_t dirty_tracking = 1U << 1;
inline constexpr std::uint32_t fault_id_valid = 1U << 2;
inline constexpr std::uint32_t pasid = 1U << 3;
}  // namespace hwpt_flags

/// struct iommu_hwpt_alloc
struct hwpt_alloc {
  std::uint32_t size;
  std::uint32_t flags;
  std::uint32_t dev_id;
  std::uint32_t pt_id;
  std::uint32_t out_hwpt_id;
  std::uint32_t reserved;
  std::uint32_t data_type;
  std::uint32_t data_len;
  std::uint64_t data_uptr;
  std::uint32_t fault_id;  // since 6.11
  std::uint32_t reserved2;
};
static_assert(sizeof(hwpt_alloc) == 48);
static_assert(offsetof(hwpt_alloc, data_uptr) == 32);

/// IOMMU_HW_CAP_*
namespace hw_caps {
inline constexpr std::uint64_t dirty_tracking = 1U << 0;
}  // namespace hw_caps

/// struct iommu_hw_info
struct hw_info {
  std::uint32_t size;
  std::uint32_t flags;
  std::uint32_t dev_id;
  std::uint32_t data_len;
  std::uint64_t data_uptr;
  std::uint32_t out_data_type;      // which IOMMU it is: 0 not told, 1 VT-d
  std::uint8_t out_max_pasid_log2;  // since 6.15; 0: none
  std::uint8_t reserved[3];
  std::uint64_t out_capabilities;
};
static_assert(sizeof(hw_info) == 40);
static_assert(offsetof(hw_info, out_max_pasid_log2) == 28);
static_assert(offsetof(hw_info, out_capabilities) == 32);

/// struct iommu_hwpt_set_dirty_tracking
struct hwpt_set_dirty_tracking {
  std::uint32_t size;
  std::uint32_t flags;  // 1 starts, 0 ends
  std::uint32_t hwpt_id;
  std::uint32_t reserved;
};
static_assert(sizeof(hwpt_set_dirty_tracking) == 16);

/// struct iommu_hwpt_get_dirty_bitmap
struct hwpt_get_dirty_bitmap {
  std::uint32_t size;
  std::uint32_t hwpt_id;
  std::uint32_t flags;
  std::uint32_t reserved;
  std::uint64_t iova;
  std::uint64_t length;
  std::uint64_t page_size;
  std::uint64_t data;
};
static_assert(sizeof(hwpt_get_dirty_bitmap) == 48);

}  // namespace runnel::vfio::uapi::iommufd
