#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "apps/target/controller_state.h"
#include "drivers/nvme/spec.h"
#include "drivers/nvme/spec_logs.h"
#include "mempool/base/clock.h"

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

/// The values after a reset at `now`.
[[nodiscard]] feature_state initial_features(instant now) noexcept;

/// Bytes that a feature has beside its dword: a host identifier or a timestamp. 0: it has none.
/// @param cdw11  of the command
[[nodiscard]] std::size_t feature_data_bytes(std::uint32_t cdw10, std::uint32_t cdw11) noexcept;
using feature_data = std::array<std::byte, 16>;

/// @param cdw10  feature in bits 7:0, select above @param cdw11  what to look up
/// @return invalid_field for features that there are not; saved values are those after a reset
/// @spec NVMe Base 2.0 §5.15
[[nodiscard]] feature_answer get_feature(const controller_state& state,
                                         const feature_limits& limits, std::uint32_t cdw10,
                                         std::uint32_t cdw11) noexcept;
/// The rest of the answer. @param now  any clock that keeps running
void get_feature_data(const controller_state& state, std::uint32_t cdw10, instant now,
                      feature_data& out) noexcept;

/// @param io_queue_exists  then the number of queues is fixed (command_sequence_error)
/// @return feature_not_saveable for all that are to be saved
/// @spec NVMe Base 2.0 §5.27
[[nodiscard]] feature_answer set_feature(controller_state& state, const feature_limits& limits,
                                         const nvme::submission_entry& command,
                                         bool io_queue_exists) noexcept;
/// Takes the data of a feature that has some; `set_feature` found the command right.
[[nodiscard]] nvme::status_code set_feature_data(controller_state& state,
                                                 const nvme::submission_entry& command, instant now,
                                                 const feature_data& in) noexcept;

/// False when the host switched the cache off: then every write must be durable at once.
[[nodiscard]] bool write_cache_enabled(const feature_state& features) noexcept;

struct temperature_limits {
  std::uint16_t over = 0;   // kelvin: from here on it is too hot
  std::uint16_t under = 0;  // and down from here too cold
};
[[nodiscard]] temperature_limits temperature_limits_of(const feature_state& features) noexcept;

/// Events that the host wants to be told of, as in dword 11 of the feature.
[[nodiscard]] std::uint32_t events_wanted(const feature_state& features) noexcept;

/// @spec NVMe Base 2.0 §5.16.1.18
[[nodiscard]] nvme::supported_log describe_feature_effects(const feature_limits& limits) noexcept;

}  // namespace runnel::target
