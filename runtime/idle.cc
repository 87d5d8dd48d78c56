#include "runtime/idle.h"

#include <algorithm>
#include <utility>

namespace runnel {

idle_rung idle_ladder::next(bool worked, instant now) noexcept {
  if (worked) {
    learn();
    idle_since_ = now;
    sleep_from_ = now + sleep_after_;
  }
  const nanoseconds idle = now - idle_since_;
  if (idle >= sleep_after_) {
    return now >= sleep_from_ ? idle_rung::sleep : idle_rung::pause;
  }
  return idle >= options_.nap_after     ? idle_rung::nap
         : idle >= options_.pause_after ? idle_rung::pause
                                        : idle_rung::spin;
}

void idle_ladder::learn() noexcept {
  const nanoseconds slept = std::exchange(slept_, nanoseconds{0});
  if (slept == nanoseconds{0}) {
    return;
  }
  sleep_after_ = slept < options_.sleep_after_max
                     ? std::min(2 * sleep_after_, options_.sleep_after_max)
                     : std::max(sleep_after_ / 2, options_.sleep_after_min);
}

}  // namespace runnel
