#pragma once

#include <array>
#include <cstdint>

#include "apps/target/controller_state.h"
#include "drivers/nvme/identify.h"
#include "drivers/nvme/spec.h"

namespace runnel::target {

/// A command that ended with another status than success.
struct failed_command {
  std::uint16_t queue = 0;
  std::uint16_t command_id = 0;
  nvme::status_code status = nvme::status_code::success;
  std::uint32_t nsid = 0;
  std::uint64_t first = 0;  // block; 0 where it is not known any more
};

/// Keeps the newest `error_entries_max` of them.
void note_error(error_state& errors, const failed_command& failed) noexcept;

/// Moves what was noted apart from the log into it: behind what is there, and numbered anew.
void move_errors(error_state& from, error_state& log) noexcept;

/// Data that the device could not read or write, rather than a command that was wrong.
[[nodiscard]] constexpr bool is_media_error(nvme::status_code status) noexcept {
  constexpr unsigned media_and_data = 2;  // status code type
  return static_cast<unsigned>(status) >> 8U == media_and_data &&
         status != nvme::status_code::compare_failure;
}

/// The log page: the newest first, unused entries zero. @spec NVMe Base 2.0 §5.16.1.2
[[nodiscard]] std::array<nvme::error_log_entry, error_entries_max> describe_errors(
    const error_state& errors) noexcept;

}  // namespace runnel::target
