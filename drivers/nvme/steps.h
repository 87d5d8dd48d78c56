#pragma once

#include <cstdint>
#include <span>

#include "drivers/nvme/controller_data.h"
#include "mempool/base/clock.h"
#include "mempool/base/error.h"

// Everything that takes a controller time is a table of steps: start one, look whether it is done,
// go on to the next; the one that is late or wrong names the failure.
namespace runnel::nvme {

/// Who says how long a step may take.
enum class step_limit : std::uint8_t {
  answer,     // options.answer_limit
  transport,  // the transport, which ends by itself; device_limit_max all the same
  admin,      // options.admin_limit
  question,   // question.limit
  ready,      // the device: CAP.TO or CRTO, up to device_limit_max
  shutdown,   // the device: RTD3E, up to device_limit_max
};

struct step {
  const char* name = "";  // the operation in a failure: "enable"
  step_limit limit = step_limit::answer;
  /// @error queue_full: started again at the next turn; any other fails the table
  result<> (*start)(controller_data&) noexcept = nullptr;
  /// True: done. Called until then, first right after `start`.
  result<bool> (*check)(controller_data&, instant now) noexcept = nullptr;
};

// From a transport that connects to a controller whose registers and doorbells are within reach.
[[nodiscard]] std::span<const step> attach_steps() noexcept;
// From there to queues that run; a controller that runs already is disabled first.
[[nodiscard]] std::span<const step> enable_steps() noexcept;
[[nodiscard]] std::span<const step> watch_steps() noexcept;     // is a running controller well?
[[nodiscard]] std::span<const step> abort_steps() noexcept;     // ends what is over its time
[[nodiscard]] std::span<const step> question_steps() noexcept;  // what a user wants to know
[[nodiscard]] std::span<const step> event_steps() noexcept;     // more of what it reported
[[nodiscard]] std::span<const step> rescan_steps() noexcept;    // what the namespace is now
[[nodiscard]] std::span<const step> shutdown_steps() noexcept;  // to a controller that is off
// The shortest way there, for a controller that failed: it shall reach no memory of ours.
[[nodiscard]] std::span<const step> retire_steps() noexcept;

/// Takes in what the device has reported by itself.
void take_events(controller_data& data) noexcept;

[[nodiscard]] nanoseconds limit_of(const step& which, const controller_data& data) noexcept;

/// However long the device says that it needs: what CAP.TO can say at most.
inline constexpr nanoseconds device_limit_max = std::chrono::milliseconds{127'500};

/// How often CSTS and the admin queue are looked at while a step waits for them.
inline constexpr nanoseconds step_poll_interval = std::chrono::microseconds{50};

}  // namespace runnel::nvme
