#include "bench/stalls.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>

#include "bench/samples.h"
#include "mempool/base/check.h"
#include "mempool/base/clock.h"
#include "runtime/thread.h"

namespace runnel::bench {
namespace {

constexpr double stall_us_min = 1;
constexpr std::size_t stalls_max = 100'000;  // per core: more would be a machine without a core

struct watch {
  std::uint64_t began;
  double seconds;
  std::vector<stall> found;
};

void look(void* context) noexcept {
  auto& self = *static_cast<watch*>(context);
  const double cycles_per_us = static_cast<double>(tsc_hz()) / 1e6;
  const auto us_since = [&self, cycles_per_us](std::uint64_t time) {
    return static_cast<double>(time - self.began) / cycles_per_us;
  };
  const auto shortest = static_cast<std::uint64_t>(stall_us_min * cycles_per_us);
  const auto end = self.began + static_cast<std::uint64_t>(self.seconds * 1e6 * cycles_per_us);
  for (std::uint64_t last = tsc_now(); last < end && self.found.size() < stalls_max;) {
    const std::uint64_t now = tsc_now();
    if (now - last >= shortest) {
      self.found.push_back({us_since(last), us_since(now)});
    }
    last = now;
  }
}

}  // namespace

double stalls::p999_us(double load) const {
  CHECK(load < 1);
  CHECK(seconds > 0);
  constexpr double apart_us = 1;
  const double work_us = load * apart_us;
  std::vector<double> waited_us;
  double idle_from = 0;
  auto next = found.begin();
  const auto arrivals = static_cast<std::uint64_t>(std::ceil(seconds * 1e6 / apart_us));
  for (std::uint64_t count = 0; count < arrivals; ++count) {
    const double arrival = static_cast<double>(count) * apart_us;
    double left = work_us;
    double now = std::max(arrival, idle_from);
    for (; next != found.end() && next->from_us < now + left; ++next) {
      left -= std::max(0.0, next->from_us - now);
      now = std::max(now, next->to_us);
    }
    idle_from = now + left;
    waited_us.push_back(idle_from - arrival - work_us);
  }
  return quantile_of(std::move(waited_us), 0.999);
}

outcome<stalls> measure_stalls(const std::pair<unsigned, unsigned>& cores, double seconds) {
  watch first{.began = tsc_now(), .seconds = seconds, .found = {}};
  watch second = first;
  first.found.reserve(stalls_max);
  second.found.reserve(stalls_max);
  {
    const core_id places[] = {core_id{cores.first}, core_id{cores.second}};
    const auto one = pinned_thread::start({&places[0], 1}, "stalls", look, &first);
    const auto other = pinned_thread::start({&places[1], 1}, "stalls", look, &second);
    if (!one || !other) {
      return std::unexpected{one ? other.error() : one.error()};
    }
  }
  first.found.insert(first.found.end(), second.found.begin(), second.found.end());
  std::ranges::sort(first.found, {}, &stall::from_us);
  return stalls{.seconds = seconds, .found = std::move(first.found)};
}

}  // namespace runnel::bench
