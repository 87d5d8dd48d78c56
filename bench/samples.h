#pragma once

#include <algorithm>
#include <vector>

namespace runnel::bench {

/// One value of each sample.
template <class Sample, class Field>
[[nodiscard]] std::vector<double> column(const std::vector<Sample>& samples, Field field) {
  std::vector<double> values(samples.size());
  std::ranges::transform(samples, values.begin(), field);
  return values;
}

/// The least value that is not below `fraction` of all. @pre not empty; 0 < fraction <= 1
[[nodiscard]] double quantile_of(std::vector<double> values, double fraction);

/// The middle value, the upper one of two. @pre not empty
[[nodiscard]] double median_of(std::vector<double> values);

/// Median absolute deviation: how far a typical round is from the median. @pre not empty
[[nodiscard]] double spread_of(const std::vector<double>& values);

/// How likely it is, at least, that values which are as symmetrical about 0 as chance allows lie as
/// much to one side of it: Wilcoxon's signed-rank test, two-sided, by its normal approximation.
/// A wild value counts no more than the largest of many. @pre not empty
[[nodiscard]] double signed_rank_p(std::vector<double> values);

}  // namespace runnel::bench
