#pragma once

#include <x86intrin.h>

#include <chrono>
#include <cstdint>

namespace runnel {

/// Nanoseconds since an arbitrary start; the same start for every clock of one engine.
struct engine_time {
  using duration = std::chrono::nanoseconds;
  using rep = duration::rep;
  using period = duration::period;
  using time_point = std::chrono::time_point<engine_time, duration>;
  static constexpr bool is_steady = true;
};
using instant = engine_time::time_point;
using std::chrono::nanoseconds;

inline constexpr instant never = instant::max();

/// Where an engine takes its time from. Nothing below `engine` asks the system (so that a
/// simulated clock can drive all of it); functions take `now` as an argument where they can.
class clock_source {
 public:
  virtual ~clock_source() = default;
  [[nodiscard]] virtual instant now() const noexcept = 0;
};

/// The time stamp counter, calibrated once per process against CLOCK_MONOTONIC.
class tsc_clock final : public clock_source {
 public:
  tsc_clock() noexcept;
  [[nodiscard]] instant now() const noexcept override;

 private:
  std::uint64_t start_cycles_;
  std::uint64_t nanoseconds_per_cycle_q32_;  // 32.32 fixed point
};

/// Time that moves only when told to. @context one thread
class virtual_clock final : public clock_source {
 public:
  [[nodiscard]] instant now() const noexcept override { return now_; }
  void advance_to(instant time) noexcept { now_ = time > now_ ? time : now_; }

 private:
  instant now_{};
};

/// Raw cycle stamp for statistics; about 9 ns, so once per burst.
[[nodiscard]] inline std::uint64_t tsc_now() noexcept {
  return __rdtsc();
}

/// TSC frequency; measured over a few milliseconds at the first call. @context control thread
[[nodiscard]] std::uint64_t tsc_hz() noexcept;

}  // namespace runnel
