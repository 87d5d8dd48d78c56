#pragma once

#include <vector>

namespace runnel::bench {

/// The least value that is not below `fraction` of all. @pre not empty; 0 < fraction <= 1
[[nodiscard]] double quantile_of(std::vector<double> values, double fraction);

/// The middle value, the upper one of two. @pre not empty
[[nodiscard]] double median_of(std::vector<double> values);

/// Median absolute deviation: how far a typical round is from the median. @pre not empty
[[nodiscard]] double spread_of(const std::vector<double>& values);

}  // namespace runnel::bench
