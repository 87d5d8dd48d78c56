#include "runtime/histogram.h"

#include <cmath>

namespace runnel {

void histogram::merge(const histogram& other) noexcept {
  for (std::size_t index = 0; index < counts_.size(); ++index) {
    counts_[index] += other.counts_[index];
  }
  sum_ += other.sum_;
  min_ = std::min(min_, other.min_);
  max_ = std::max(max_, other.max_);
}

std::uint64_t histogram::count() const noexcept {
  std::uint64_t total = 0;
  for (const std::uint64_t bucket : counts_) {
    total += bucket;
  }
  return total;
}

double histogram::mean() const noexcept {
  const std::uint64_t total = count();
  return total == 0 ? 0.0 : static_cast<double>(sum_) / static_cast<double>(total);
}

std::uint64_t histogram::quantile(double fraction) const noexcept {
  const std::uint64_t total = count();
  if (total == 0) {
    return 0;
  }
  const double rank = std::ceil(std::clamp(fraction, 0.0, 1.0) * static_cast<double>(total));
  const std::uint64_t wanted = std::max<std::uint64_t>(1, static_cast<std::uint64_t>(rank));
  std::uint64_t seen = 0;
  for (std::size_t index = 0; index < counts_.size(); ++index) {
    seen += counts_[index];
    if (seen >= wanted) {
      return std::min(high_of(index), max_);
    }
  }
  return max_;
}

std::uint64_t histogram::low_of(std::size_t index) noexcept {
  constexpr std::size_t exact = std::size_t{2} << digit_bits;
  if (index < exact) {
    return index;
  }
  const std::size_t shift = (index >> digit_bits) - 1;
  return (index - (shift << digit_bits)) << shift;
}

std::uint64_t histogram::high_of(std::size_t index) noexcept {
  return low_of(index) + resolution_at(low_of(index)) - 1;
}

}  // namespace runnel
