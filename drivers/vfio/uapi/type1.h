#pragma once

#include <cstddef>
#include <cstdint>

#include "drivers/vfio/uapi/vfio.h"

// Groups, and containers with a type1 IOMMU: the way to a device that every kernel since 3.6 has.
// @spec Linux 7.2 include/uapi/linux/vfio.h
namespace runnel::vfio::uapi {

inline constexpr int api_version = 0;

/// VFIO_*: of a group's and of a container's descriptor.
namespace ioctls {
inline constexpr unsigned long get_api_version = vfio_ioctl(0);
inline constexpr unsigned long check_extension = vfio_ioctl(1);
inline constexpr unsigned long set_iommu = vfio_ioctl(2);
inline constexpr unsigned long group_get_status = vfio_ioctl(3);
inline constexpr unsigned long group_set_container = vfio_ioctl(4);
inline constexpr unsigned long group_unset_container = vfio_ioctl(5);
inline constexpr unsigned long group_get_device_fd = vfio_ioctl(6);
inline constexpr unsigned long iommu_get_info = vfio_ioctl(12);
inline constexpr unsigned long iommu_map_dma = vfio_ioctl(13);
inline constexpr unsigned long iommu_unmap_dma = vfio_ioctl(14);
inline constexpr unsigned long iommu_dirty_pages = vfio_ioctl(17);
}  // namespace ioctls

/// What check_extension is asked for, and set_iommu is given.
namespace extensions {
inline constexpr unsigned long type1_iommu = 1;  // splits mappings when part is unmapped: not ours
inline constexpr unsigned long type1v2_iommu = 3;  // unmaps what was mapped, or nothing
inline constexpr unsigned long noiommu_iommu = 8;  // no translation and no protection
inline constexpr unsigned long unmap_all = 9;
inline constexpr unsigned long update_vaddr = 10;
}  // namespace extensions

/// VFIO_GROUP_FLAGS_*
namespace group_flags {
inline constexpr std::uint32_t viable = 1U << 0;  // all its devices are VFIO's, or nobody's
inline constexpr std::uint32_t container_set = 1U << 1;
}  // namespace group_flags

/// struct vfio_group_status
struct group_status {
  std::uint32_t argsz;
  std::uint32_t flags;
};
static_assert(sizeof(group_status) == 8);

/// VFIO_IOMMU_INFO_*
namespace iommu_info_flags {
inline constexpr std::uint32_t pgsizes = 1U << 0;
inline constexpr std::uint32_t caps = 1U << 1;  // `cap_offset` begins a chain
}  // namespace iommu_info_flags

/// VFIO_IOMMU_TYPE1_INFO_*
namespace iommu_caps {
inline constexpr std::uint16_t iova_range = 1;
inline constexpr std::uint16_t migration = 2;
inline constexpr std::uint16_t dma_avail = 3;
}  // namespace iommu_caps

/// struct vfio_iommu_type1_info; capabilities follow.
struct iommu_type1_info {
  std::uint32_t argsz;
  std::uint32_t flags;
  std::uint64_t iova_pgsizes;  // one bit for each size
  std::uint32_t cap_offset;
  std::uint32_t pad;
};
static_assert(sizeof(iommu_type1_info) == 24);
static_assert(offsetof(iommu_type1_info, cap_offset) == 16);

/// struct vfio_iommu_type1_info_cap_iova_range, version 1; `nr_iovas` ranges follow.
struct iommu_type1_info_cap_iova_range {
  info_cap_header header;
  std::uint32_t nr_iovas;
  std::uint32_t reserved;
};
static_assert(sizeof(iommu_type1_info_cap_iova_range) == 16);
static_assert(offsetof(iommu_type1_info_cap_iova_range, nr_iovas) == 8);

/// struct vfio_iova_range
struct type1_iova_range {
  std::uint64_t start;
  std::uint64_t end;  // the last address, not the one behind it
};
static_assert(sizeof(type1_iova_range) == 16);

/// struct vfio_iommu_type1_info_cap_migration, version 1
struct iommu_type1_info_cap_migration {
  info_cap_header header;
  std::uint32_t flags;
  std::uint64_t pgsize_bitmap;
  std::uint64_t max_dirty_bitmap_size;
};
static_assert(sizeof(iommu_type1_info_cap_migration) == 32);
static_assert(offsetof(iommu_type1_info_cap_migration, pgsize_bitmap) == 16);

/// struct vfio_iommu_type1_info_dma_avail, version 1
struct iommu_type1_info_dma_avail {
  info_cap_header header;
  std::uint32_t avail;  // mappings that can still be made
};
static_assert(sizeof(iommu_type1_info_dma_avail) == 12);

/// VFIO_DMA_MAP_FLAG_*
namespace dma_map_flags {
inline constexpr std::uint32_t read = 1U << 0;  // by the device
inline constexpr std::uint32_t write = 1U << 1;
}  // namespace dma_map_flags

/// struct vfio_iommu_type1_dma_map
struct iommu_type1_dma_map {
  std::uint32_t argsz;
  std::uint32_t flags;
  std::uint64_t vaddr;
  std::uint64_t iova;
  std::uint64_t size;
};
static_assert(sizeof(iommu_type1_dma_map) == 32);
static_assert(offsetof(iommu_type1_dma_map, size) == 24);

/// VFIO_DMA_UNMAP_FLAG_*
namespace dma_unmap_flags {
inline constexpr std::uint32_t get_dirty_bitmap = 1U << 0;
inline constexpr std::uint32_t all = 1U << 1;
}  // namespace dma_unmap_flags

/// struct vfio_iommu_type1_dma_unmap
struct iommu_type1_dma_unmap {
  std::uint32_t argsz;
  std::uint32_t flags;
  std::uint64_t iova;
  std::uint64_t size;  // out: how much was unmapped, which may be nothing
};
static_assert(sizeof(iommu_type1_dma_unmap) == 24);
static_assert(offsetof(iommu_type1_dma_unmap, size) == 16);

/// struct vfio_bitmap
struct dirty_bitmap {
  std::uint64_t pgsize;
  std::uint64_t size;  // of the bitmap, bytes
  std::uint64_t data;  // points to it
};
static_assert(sizeof(dirty_bitmap) == 24);

/// VFIO_IOMMU_DIRTY_PAGES_FLAG_*, one of them
namespace dirty_pages_flags {
inline constexpr std::uint32_t start = 1U << 0;
inline constexpr std::uint32_t stop = 1U << 1;
inline constexpr std::uint32_t get_bitmap = 1U << 2;
}  // namespace dirty_pages_flags

/// struct vfio_iommu_type1_dirty_bitmap; the next one follows where the bitmap is asked for.
struct iommu_type1_dirty_bitmap {
  std::uint32_t argsz;
  std::uint32_t flags;
};
static_assert(sizeof(iommu_type1_dirty_bitmap) == 8);

/// struct vfio_iommu_type1_dirty_bitmap_get
struct iommu_type1_dirty_bitmap_get {
  std::uint64_t iova;
  std::uint64_t size;
  dirty_bitmap bitmap;
};
static_assert(sizeof(iommu_type1_dirty_bitmap_get) == 40);

}  // namespace runnel::vfio::uapi
