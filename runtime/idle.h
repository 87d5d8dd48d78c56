#pragma once

#include <cstdint>

#include "mempool/base/clock.h"

namespace runnel {

/// How the cores of an engine spend turns that find nothing.
enum class poll_mode : std::uint8_t {
  busy,      // they look again at once, for ever
  adaptive,  // they look less and less often, and at last sleep until something can be found
};

/// What a core does between two turns that found nothing, from hot to cold.
enum class idle_rung : std::uint8_t { spin, pause, nap, sleep };

/// How long nothing was found before a core goes from rung to rung.
struct idle_options {
  nanoseconds pause_after{10'000};
  nanoseconds nap_after{30'000};
  nanoseconds sleep_after_min{100'000};  // more than it takes to wake a peer and have its answer
  nanoseconds sleep_after_max{400'000};  // as after work that came too soon for a sleep to pay
  nanoseconds retry_after{50'000};       // when it may not sleep, until it asks again
};

/// Decides how idle a core may be. One turn that finds work leads back to the first rung; waking up
/// for nothing, as for housekeeping, does not. A core that was woken after a sleep shorter than
/// `sleep_after_max` had better not have slept: from then on it waits twice as long before it does,
/// and half as long again after a sleep that was worth it. Work that the kernel brought
/// (`source::kernel_brings`, a descriptor) is not `worked`: a core with file I/O alone stays on the
/// sleep rung, and what its sleeps were worth is learnt only when other work is found.
/// @context one core; asked only after turns that found nothing
class idle_ladder {
 public:
  explicit idle_ladder(const idle_options& options) noexcept
      : options_{options}, sleep_after_{options.sleep_after_min} {}

  /// Where the core is now. @param worked  whether a turn found work since the last call
  [[nodiscard]] idle_rung next(bool worked, instant now) noexcept;
  /// It slept so long.
  void slept(nanoseconds duration) noexcept { slept_ += duration; }
  /// It could not: something cannot wake it, or not yet.
  void refused(instant now) noexcept { sleep_from_ = now + options_.retry_after; }

 private:
  void learn() noexcept;

  idle_options options_;
  nanoseconds sleep_after_;
  nanoseconds slept_{0};  // since it last worked
  instant idle_since_{};
  instant sleep_from_{};
};

}  // namespace runnel
