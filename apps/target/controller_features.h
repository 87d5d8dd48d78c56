#pragma once

#include <cstdint>

#include "apps/target/controller_state.h"
#include "drivers/nvme/spec.h"

namespace runnel::target {

/// What features depend on beside the state.
struct feature_limits {
  std::uint16_t io_queues = 0;  // of each kind
  std::uint16_t vectors = 0;
  bool volatile_cache = false;
};

struct feature_answer {
  nvme::status_code status = nvme::status_code::success;
  std::uint32_t value = 0;  // dword 0 of the completion
};

/// The values after a reset.
[[nodiscard]] feature_state initial_features() noexcept;

/// @param cdw10  feature in bits 7:0, save or select above @param cdw11  value, or what to look up
/// @return invalid_field for features that there are not; saving is not supported
/// @spec NVMe Base 2.0 §5.15, §5.27
[[nodiscard]] feature_answer get_feature(const controller_state& state,
                                         const feature_limits& limits, std::uint32_t cdw10,
                                         std::uint32_t cdw11) noexcept;

/// @param io_queue_exists  then the number of queues is fixed (command_sequence_error)
[[nodiscard]] feature_answer set_feature(controller_state& state, const feature_limits& limits,
                                         const nvme::submission_entry& command,
                                         bool io_queue_exists) noexcept;

/// False when the host switched the cache off: then every write must be durable at once.
[[nodiscard]] bool write_cache_enabled(const feature_state& features) noexcept;

}  // namespace runnel::target
