#pragma once

#include <cstddef>
#include <cstdint>

// The features of VFIO_DEVICE_FEATURE: their numbers and what follows the header of each. Pointers
// are carried as 64-bit numbers.
// @spec Linux 7.2 include/uapi/linux/vfio.h
namespace runnel::vfio::uapi {

/// VFIO_DEVICE_FEATURE_*, in the order of their coming (5.7 to 7.1).
namespace features {
inline constexpr std::uint32_t pci_vf_token = 0;
inline constexpr std::uint32_t migration = 1;
inline constexpr std::uint32_t mig_device_state = 2;
inline constexpr std::uint32_t low_power_entry = 3;
inline constexpr std::uint32_t low_power_entry_with_wakeup = 4;
inline constexpr std::uint32_t low_power_exit = 5;
inline constexpr std::uint32_t dma_logging_start = 6;
inline constexpr std::uint32_t dma_logging_stop = 7;
inline constexpr std::uint32_t dma_logging_report = 8;
inline constexpr std::uint32_t mig_data_size = 9;
inline constexpr std::uint32_t bus_master = 10;
inline constexpr std::uint32_t dma_buf = 11;
inline constexpr std::uint32_t mig_precopy_info_v2 = 12;
}  // namespace features

/// Of `pci_vf_token`: what a VF's user must know to open it.
struct feature_pci_vf_token {
  std::uint8_t uuid[16];
};
static_assert(sizeof(feature_pci_vf_token) == 16);

/// VFIO_MIGRATION_*
namespace migration_flags {
inline constexpr std::uint64_t stop_copy = 1U << 0;
inline constexpr std::uint64_t p2p = 1U << 1;
inline constexpr std::uint64_t pre_copy = 1U << 2;
}  // namespace migration_flags

/// struct vfio_device_feature_migration
struct device_feature_migration {
  std::uint64_t flags;
};
static_assert(sizeof(device_feature_migration) == 8);

/// VFIO_DEVICE_STATE_*
enum class device_mig_state : std::uint32_t {
  error = 0,
  stop = 1,
  running = 2,
  stop_copy = 3,
  resuming = 4,
  running_p2p = 5,
  pre_copy = 6,
  pre_copy_p2p = 7
};

/// struct vfio_device_feature_mig_state
struct device_feature_mig_state {
  std::uint32_t device_state;
  std::int32_t data_fd;
};
static_assert(sizeof(device_feature_mig_state) == 8);

/// struct vfio_device_low_power_entry_with_wakeup
struct device_low_power_entry_with_wakeup {
  std::int32_t wakeup_eventfd;
  std::uint32_t reserved;
};
static_assert(sizeof(device_low_power_entry_with_wakeup) == 8);

/// struct vfio_device_feature_dma_logging_control
struct device_feature_dma_logging_control {
  std::uint64_t page_size;
  std::uint32_t num_ranges;
  std::uint32_t reserved;
  std::uint64_t ranges;  // points to `num_ranges` of the next
};
static_assert(sizeof(device_feature_dma_logging_control) == 24);
static_assert(offsetof(device_feature_dma_logging_control, ranges) == 16);

/// struct vfio_device_feature_dma_logging_range
struct device_feature_dma_logging_range {
  std::uint64_t iova;
  std::uint64_t length;
};
static_assert(sizeof(device_feature_dma_logging_range) == 16);

/// struct vfio_device_feature_dma_logging_report
struct device_feature_dma_logging_report {
  std::uint64_t iova;
  std::uint64_t length;
  std::uint64_t page_size;
  std::uint64_t bitmap;  // points to one bit a page, in words of 64
};
static_assert(sizeof(device_feature_dma_logging_report) == 32);

/// struct vfio_device_feature_mig_data_size
struct device_feature_mig_data_size {
  std::uint64_t stop_copy_length;
};
static_assert(sizeof(device_feature_mig_data_size) == 8);

/// struct vfio_device_feature_bus_master: for buses whose configuration space has no such bit.
struct device_feature_bus_master {
  std::uint32_t op;  // 0 clears, 1 sets
};
static_assert(sizeof(device_feature_bus_master) == 4);

/// struct vfio_region_dma_range
struct region_dma_range {
  std::uint64_t offset;
  std::uint64_t length;
};
static_assert(sizeof(region_dma_range) == 16);

/// struct vfio_device_feature_dma_buf; `nr_ranges` ranges follow. The ioctl returns a descriptor.
struct device_feature_dma_buf {
  std::uint32_t region_index;
  std::uint32_t open_flags;  // as open(2) has them
  std::uint32_t flags;       // 0
  std::uint32_t nr_ranges;
};
static_assert(sizeof(device_feature_dma_buf) == 16);

/// VFIO_PRECOPY_INFO_*: only after `mig_precopy_info_v2` was set.
namespace precopy_flags {
inline constexpr std::uint32_t reinit = 1U << 0;  // `initial_bytes` counts from new
}  // namespace precopy_flags

/// struct vfio_precopy_info, of VFIO_MIG_GET_PRECOPY_INFO on a migration's data descriptor
struct precopy_info {
  std::uint32_t argsz;
  std::uint32_t flags;
  std::uint64_t initial_bytes;
  std::uint64_t dirty_bytes;
};
static_assert(sizeof(precopy_info) == 24);
static_assert(offsetof(precopy_info, dirty_bytes) == 16);

}  // namespace runnel::vfio::uapi
