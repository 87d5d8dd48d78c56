#include "runtime/timer_wheel.h"

#include <algorithm>
#include <bit>

namespace runnel {
namespace {

std::uint64_t nanoseconds_of(instant time) noexcept {
  return time < instant{} ? 0 : static_cast<std::uint64_t>(time.time_since_epoch().count());
}

}  // namespace

timer_wheel::timer_wheel(instant now) noexcept : now_tick_{nanoseconds_of(now) >> tick_shift} {}

void timer_wheel::set(timer& which, instant deadline) noexcept {
  cancel(which);
  constexpr std::uint64_t round_up = (std::uint64_t{1} << tick_shift) - 1;
  which.tick_ = std::max((nanoseconds_of(deadline) + round_up) >> tick_shift, now_tick_);
  insert(which);
}

void timer_wheel::insert(timer& which) noexcept {
  const std::uint64_t differing = which.tick_ ^ now_tick_;
  const unsigned highest_bit = static_cast<unsigned>(std::bit_width(differing | 1)) - 1;
  const unsigned level = highest_bit / digit_bits;
  const unsigned slot_index =
      static_cast<unsigned>(which.tick_ >> (level * digit_bits)) % slots_per_level;
  which.place_ = static_cast<std::uint16_t>(level * slots_per_level + slot_index);
  slots_[which.place_].push_back(which);
  slots_used_[level] |= std::uint64_t{1} << slot_index;
  levels_used_ |= 1U << level;
}

void timer_wheel::cancel(timer& which) noexcept {
  if (!which.armed()) {
    return;
  }
  which.unlink();
  if (which.place_ == due_place || !slots_[which.place_].empty()) {
    return;
  }
  const unsigned level = which.place_ / slots_per_level;
  slots_used_[level] &= ~(std::uint64_t{1} << (which.place_ % slots_per_level));
  if (slots_used_[level] == 0) {
    levels_used_ &= ~(1U << level);
  }
}

/// First tick of the first used slot of a level. Slots of one level never wrap: a timer that
/// differs from the present in a higher digit is at a higher level.
std::uint64_t timer_wheel::next_tick(unsigned level) const noexcept {
  const auto slot_index = static_cast<std::uint64_t>(std::countr_zero(slots_used_[level]));
  const unsigned shift = level * digit_bits;
  const std::uint64_t block = now_tick_ >> (shift + digit_bits) << (shift + digit_bits);
  return block | (slot_index << shift);
}

instant timer_wheel::next_deadline() const noexcept {
  if (!due_.empty()) {
    return instant{nanoseconds{static_cast<std::int64_t>(now_tick_ << tick_shift)}};
  }
  if (levels_used_ == 0) {
    return never;
  }
  const std::uint64_t tick = next_tick(static_cast<unsigned>(std::countr_zero(levels_used_)));
  constexpr std::uint64_t tick_max = static_cast<std::uint64_t>(never.time_since_epoch().count());
  return instant{nanoseconds{static_cast<std::int64_t>(std::min(tick << tick_shift, tick_max))}};
}

void timer_wheel::advance(instant now) noexcept {
  const std::uint64_t target = std::max(nanoseconds_of(now) >> tick_shift, now_tick_);
  while (levels_used_ != 0) {
    const auto level = static_cast<unsigned>(std::countr_zero(levels_used_));
    const std::uint64_t tick = next_tick(level);
    if (tick > target) {
      break;
    }
    now_tick_ = std::max(tick, now_tick_);
    slot& first = slots_[level * slots_per_level +
                         static_cast<unsigned>(std::countr_zero(slots_used_[level]))];
    while (!first.empty()) {
      timer& reached = first.front();
      cancel(reached);
      if (level == 0) {
        reached.place_ = due_place;
        due_.push_back(reached);
      } else {
        insert(reached);  // at least one level lower: its digit here is now the present one
      }
    }
  }
  now_tick_ = target;
}

}  // namespace runnel
