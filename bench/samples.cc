#include "bench/samples.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numbers>

#include "mempool/base/check.h"

namespace runnel::bench {
namespace {

double value_at(std::vector<double>& values, std::size_t index) {
  CHECK(index < values.size());
  const auto place = values.begin() + static_cast<std::ptrdiff_t>(index);
  std::nth_element(values.begin(), place, values.end());
  return *place;
}

}  // namespace

double quantile_of(std::vector<double> values, double fraction) {
  const double rank = std::ceil(fraction * static_cast<double>(values.size()));
  return value_at(values, static_cast<std::size_t>(std::max(rank, 1.0)) - 1);
}

double median_of(std::vector<double> values) {
  return value_at(values, values.size() / 2);
}

double spread_of(const std::vector<double>& values) {
  const double middle = median_of(values);
  std::vector<double> distances;
  distances.reserve(values.size());
  for (const double value : values) {
    distances.push_back(std::abs(value - middle));
  }
  return median_of(distances);
}

double signed_rank_p(std::vector<double> values) {
  CHECK(!values.empty());
  const auto size_of = [](double value) { return std::abs(value); };
  std::ranges::sort(values, {}, size_of);
  double positive = 0;  // sum of the ranks, by size; zeros and ties take the middle of theirs
  for (auto first = values.begin(); first != values.end();) {
    const auto last = std::ranges::upper_bound(first, values.end(), size_of(*first), {}, size_of);
    const auto rank = static_cast<double>(first - values.begin() + last - values.begin() + 1) / 2;
    for (; first != last; ++first) {
      positive += *first > 0 ? rank : *first < 0 ? 0 : rank / 2;
    }
  }
  const auto count = static_cast<double>(values.size());
  const double expected = count * (count + 1) / 4;
  const double deviation = std::sqrt(expected * (2 * count + 1) / 6);
  const double distance = std::max(0.0, std::abs(positive - expected) - 0.5);
  return std::erfc(distance / deviation / std::numbers::sqrt2);
}

}  // namespace runnel::bench
