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

double mann_whitney_p(const std::vector<double>& some, const std::vector<double>& others) {
  CHECK(!some.empty());
  CHECK(!others.empty());
  double wins = 0;  // pairs in which `some` has the greater value; a tie is half of one
  for (const double one : some) {
    for (const double other : others) {
      wins += one > other ? 1 : one == other ? 0.5 : 0;
    }
  }
  const auto pairs = static_cast<double>(some.size() * others.size());
  const auto values = static_cast<double>(some.size() + others.size());
  const double deviation = std::sqrt(pairs * (values + 1) / 12);
  const double distance = std::max(0.0, std::abs(wins - pairs / 2) - 0.5);
  return std::erfc(distance / deviation / std::numbers::sqrt2);
}

}  // namespace runnel::bench
