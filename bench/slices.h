#pragma once

#include <cstdint>
#include <vector>

#include "bench/samples.h"
#include "mempool/base/clock.h"

namespace runnel::bench {

/// Times a loop in slices of about a millisecond and says what the median one took, so that those
/// in which somebody else had the core do not count.
class slices {
 public:
  /// @param per_slice  iterations, at least 2
  slices(double seconds, std::uint32_t per_slice) noexcept
      : per_slice_{per_slice},
        left_{per_slice},
        began_{tsc_now()},
        ends_{began_ + static_cast<std::uint64_t>(seconds * static_cast<double>(tsc_hz()))} {}

  /// Once per iteration. @return false: the time is over
  [[nodiscard]] bool go_on() { return --left_ != 0 || next(); }

  /// TSC cycles per iteration. @pre the time is over
  [[nodiscard]] double cycles() const { return median_of(cycles_) / per_slice_; }

 private:
  bool next() {
    const std::uint64_t now = tsc_now();
    cycles_.push_back(static_cast<double>(now - began_));
    left_ = per_slice_;
    began_ = tsc_now();
    return now < ends_;
  }

  std::uint32_t per_slice_;
  std::uint32_t left_;
  std::uint64_t began_;
  std::uint64_t ends_;
  std::vector<double> cycles_;
};

}  // namespace runnel::bench
