#include "bench/samples.h"

#include <algorithm>
#include <cmath>
#include <cstddef>

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

}  // namespace runnel::bench
