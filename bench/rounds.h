#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "apps/floor/floor.h"

namespace runnel::bench {

/// The samples of one row, and what became of the rest.
template <class Sample>
struct rounds_taken {
  std::vector<Sample> samples;
  unsigned discarded = 0;
  std::string why_void = {};
};

/// How long a line takes between the two cores, before and after a round.
struct line_of_round {
  double before = 0;
  double after = 0;

  /// The host has put the cores elsewhere meanwhile: what was measured is a mixture.
  [[nodiscard]] bool moved() const noexcept {
    constexpr double noise = 1.25;
    return std::max(before, after) > noise * std::min(before, after);
  }
};

template <class Sample>
std::size_t place_of(const Sample& one) {
  if constexpr (requires { one.line; }) {
    return static_cast<std::size_t>(floor::placement_of(one.line.before));
  }
  return 0;
}

template <class Sample>
bool is_disturbed(const Sample& one) {
  if constexpr (requires { one.line; }) {
    return one.preempted || one.line.moved();
  }
  return one.preempted;
}

/// Calls `take` until `wanted` samples of one placement of the cores are there in which nobody was
/// preempted or moved; twice as often at most. Samples of the other placement count as discarded.
/// When fewer than half of what was wanted are clean, the others are kept for show, and the row is
/// void.
/// @param take  makes a sample with `preempted` and, if two cores are used, a `line_of_round line`
template <class Take>
auto take_rounds(unsigned wanted, Take take) -> rounds_taken<std::invoke_result_t<Take>> {
  using sample = std::invoke_result_t<Take>;
  std::array<std::vector<sample>, 2> clean;  // by placement
  std::vector<sample> others;
  unsigned taken = 0;
  while (taken < 2 * wanted && clean[0].size() < wanted && clean[1].size() < wanted) {
    sample now = take();
    ++taken;
    auto& here = clean[place_of(now)];
    (is_disturbed(now) ? others : here).push_back(std::move(now));
  }
  rounds_taken<sample> kept{
      .samples = std::move(*std::ranges::max_element(clean, {}, &std::vector<sample>::size))};
  kept.discarded = taken - static_cast<unsigned>(kept.samples.size());
  if (2 * kept.samples.size() < wanted) {
    kept.samples.insert(kept.samples.end(), others.begin(), others.end());
    kept.why_void = "preempted, or moved";
  }
  return kept;
}

}  // namespace runnel::bench
