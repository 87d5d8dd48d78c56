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

/// How likely it is, at least, that two samples of one distribution differ as much as these in
/// which one tends to have the greater values: Mann and Whitney's test, two-sided, by its normal
/// approximation. @pre neither is empty
[[nodiscard]] double mann_whitney_p(const std::vector<double>& some,
                                    const std::vector<double>& others);

}  // namespace runnel::bench
