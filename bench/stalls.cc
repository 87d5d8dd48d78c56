#include "bench/stalls.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "mempool/base/check.h"
#include "mempool/base/clock.h"
#include "runtime/thread.h"

namespace runnel::bench {
namespace {

constexpr double stall_us_min = 1;
constexpr std::size_t stalls_max = 100'000;  // per core: more would be a machine without a core

struct watch {
  double seconds;
  std::vector<double> us;
};

void look(void* context) noexcept {
  auto& self = *static_cast<watch*>(context);
  const double cycles_per_us = static_cast<double>(tsc_hz()) / 1e6;
  const std::uint64_t start = tsc_now();
  const auto end = start + static_cast<std::uint64_t>(self.seconds * 1e6 * cycles_per_us);
  for (std::uint64_t last = start; last < end && self.us.size() < stalls_max;) {
    const std::uint64_t now = tsc_now();
    const double us = static_cast<double>(now - last) / cycles_per_us;
    if (us >= stall_us_min) {
      self.us.push_back(us);
    }
    last = now;
  }
}

}  // namespace

double stalls::p999_us(double load) const {
  CHECK(load < 1);
  CHECK(seconds > 0);
  const double allowed_us = seconds * 1e6 / 1000 * (1 - load);
  const auto stalled_longer_by = [this](double bound) {
    double sum = 0;
    for (const double one : us) {
      sum += std::max(0.0, one - bound);
    }
    return sum;
  };
  double low = 0;
  double high = us.empty() ? 0 : *std::ranges::max_element(us);
  constexpr int halvings = 40;
  for (int i = 0; i < halvings; ++i) {
    const double middle = (low + high) / 2;
    (stalled_longer_by(middle) > allowed_us ? low : high) = middle;
  }
  return high;
}

outcome<stalls> measure_stalls(const std::pair<unsigned, unsigned>& cores, double seconds) {
  watch first{.seconds = seconds, .us = {}};
  watch second = first;
  first.us.reserve(stalls_max);
  second.us.reserve(stalls_max);
  {
    const core_id places[] = {core_id{cores.first}, core_id{cores.second}};
    const auto one = pinned_thread::start({&places[0], 1}, "stalls", look, &first);
    const auto other = pinned_thread::start({&places[1], 1}, "stalls", look, &second);
    if (!one || !other) {
      return std::unexpected{one ? other.error() : one.error()};
    }
  }
  first.us.insert(first.us.end(), second.us.begin(), second.us.end());
  return stalls{.seconds = seconds, .us = std::move(first.us)};
}

}  // namespace runnel::bench
