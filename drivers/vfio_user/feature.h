#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "drivers/vfio_user/device_model.h"
#include "drivers/vfio_user/protocol.h"

// DEVICE_FEATURE: one message for everything that came late. Rules and their order are the
// kernel's, so that a client sees the same errno from us and from a kernel driver.
// @spec Linux vfio_ioctl_device_feature, vfio_check_feature
namespace runnel::vfio_user {

/// VFIO_DEVICE_FEATURE_* that the server itself takes apart for the model.
enum class feature : std::uint32_t {
  migration = 1,
  mig_device_state = 2,
  dma_logging_start = 6,
  dma_logging_stop = 7,
  dma_logging_report = 8,
  mig_data_size = 9,
};

struct feature_migration {
  std::uint64_t flags = 0;  // VFIO_MIGRATION_*
};
static_assert(sizeof(feature_migration) == 8);

struct feature_mig_device_state {
  std::uint32_t device_state = 0;
  std::int32_t data_fd = -1;  // the state travels in messages here, not through a descriptor
};
static_assert(sizeof(feature_mig_device_state) == 8);

/// `num_ranges` pairs of iova and length follow (vfio-user; the kernel has a pointer).
struct feature_dma_logging_start {
  std::uint64_t page_size = 0;
  std::uint32_t num_ranges = 0;
  std::uint32_t reserved = 0;
};
static_assert(sizeof(feature_dma_logging_start) == 16);
inline constexpr std::uint32_t logging_ranges_max = 256;

/// One bit a page follows, in whole 64-bit words (vfio-user; the kernel has a pointer).
struct feature_dma_logging_report {
  std::uint64_t iova = 0;
  std::uint64_t length = 0;
  std::uint64_t page_size = 0;
};
static_assert(sizeof(feature_dma_logging_report) == 24);

struct feature_mig_data_size {
  std::uint64_t stop_copy_length = 0;
};
static_assert(sizeof(feature_mig_data_size) == 8);

/// Rules that hold for every feature, before it is known which. @return 0 or an errno
[[nodiscard]] int check_feature_header(std::uint32_t argsz, std::uint32_t flags) noexcept;

/// Rules that hold for a feature that exists.
/// @param data_bytes     what the message carries or has room for behind its header
/// @param supported      GET, SET or both
/// @param data_bytes_min size of the feature's structure
/// @return empty: do it; else the answer
[[nodiscard]] std::optional<answer> check_feature(std::uint32_t flags, std::size_t data_bytes,
                                                  std::uint32_t supported,
                                                  std::size_t data_bytes_min) noexcept;

/// Has the model do what a message asks for. Its header was checked.
/// @param data  in: what the client sent, zeros up to the room it has; out: what GET found
[[nodiscard]] answer run_feature(device_model& model, const device_layout& layout, request_id id,
                                 std::uint32_t flags, std::span<std::byte> data);

}  // namespace runnel::vfio_user
