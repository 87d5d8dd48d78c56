#pragma once

#include <cstdint>
#include <optional>

#include "apps/target/controller_state.h"
#include "drivers/nvme/spec.h"

namespace runnel::target {

/// Asynchronous events: what happened, and the host's requests to be told. Of each type one event
/// is kept until it can be told, and then none more until the host has read the log that explains
/// it.
/// @spec NVMe Base 2.0 §5.2
class event_board {
 public:
  explicit event_board(event_state& state) noexcept : state_{state} {}

  void report(nvme::event_type what, std::uint8_t information) noexcept;
  /// The host has read the log page: events of this type are reported again.
  void log_was_read(nvme::event_type what) noexcept;

  /// Keeps a request. @return false when there are as many as the host may have
  [[nodiscard]] bool hold(std::uint16_t command_id) noexcept;
  /// Gives a request back unanswered. @return false when there is no such request
  [[nodiscard]] bool drop(std::uint16_t command_id) noexcept;

  [[nodiscard]] bool due() const noexcept { return state_.pending != 0 && state_.requests != 0; }

  struct notification {
    std::uint16_t command_id;
    std::uint32_t answer;  // dword 0
  };
  /// The next event and the request that it answers. @pre due()
  [[nodiscard]] notification take() noexcept;

 private:
  event_state& state_;
};

}  // namespace runnel::target
