#pragma once

#include <array>
#include <cstdint>

#include "mempool/base/clock.h"
#include "runtime/intrusive_list.h"

namespace runnel {

struct timer_tag;

/// One deadline; lives in whatever waits for it. Must be cancelled (or have fired) before it dies.
class timer : private list_hook<timer_tag> {
 public:
  using action = void (*)(timer& self) noexcept;

  /// @param at_deadline  called once, on the owning core, not before the deadline; the timer may be
  /// set
  ///                     again or destroyed in there
  explicit timer(action at_deadline) noexcept : fire_{at_deadline} {}

  [[nodiscard]] bool armed() const noexcept { return linked(); }
  void fire() noexcept { fire_(*this); }

 private:
  friend class timer_wheel;
  template <class T, class Tag>
  friend class intrusive_list;

  action fire_;
  std::uint64_t tick_ = 0;
  std::uint16_t place_ = 0;  // level * slots + slot, or `due`
};

/// Deadlines of one core: setting and cancelling take a few nanoseconds and never allocate.
///
/// Nine levels of 64 slots over ticks of 1,024 ns. A timer sits at the level of the highest digit
/// in which its tick differs from the current one; so everything at a level is due before anything
/// at the next, the next deadline is two bit scans away, and empty time is jumped over. Nine levels
/// hold every instant there is.
/// @context one core
class timer_wheel {
 public:
  explicit timer_wheel(instant now) noexcept;
  timer_wheel(const timer_wheel&) = delete;
  timer_wheel& operator=(const timer_wheel&) = delete;
  ~timer_wheel() = default;

  /// Arms a timer (again). A deadline in the past is due at the next `advance`. Resolution is one
  /// tick, rounded up: timers are late by up to about 1 us, never early.
  void set(timer& which, instant deadline) noexcept;

  /// Nothing happens when it is not armed.
  void cancel(timer& which) noexcept;

  /// When `advance` has something to do: not after the first deadline; `never` without timers.
  [[nodiscard]] instant next_deadline() const noexcept;

  /// Moves the wheel to `now` and makes due what is due. Time does not run backwards.
  void advance(instant now) noexcept;

  /// The next due timer, disarmed; null when there is none.
  [[nodiscard]] timer* pop_due() noexcept { return due_.pop_front(); }

 private:
  using slot = intrusive_list<timer, timer_tag>;
  static constexpr unsigned tick_shift = 10;
  static constexpr unsigned digit_bits = 6;
  static constexpr unsigned slots_per_level = 1U << digit_bits;
  static constexpr unsigned level_count = 9;  // 54 bits of ticks: all of a 64-bit nanosecond count
  static constexpr std::uint16_t due_place = level_count * slots_per_level;

  void insert(timer& which) noexcept;
  [[nodiscard]] std::uint64_t next_tick(unsigned level) const noexcept;

  std::uint64_t now_tick_;
  std::uint32_t levels_used_ = 0;                        // bit per level
  std::array<std::uint64_t, level_count> slots_used_{};  // bit per slot
  slot due_;
  std::array<slot, std::size_t{level_count} * slots_per_level> slots_;
};

}  // namespace runnel
