#pragma once

#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace runnel::bench {

/// The samples of one row, and what became of the rest.
template <class Sample>
struct rounds_taken {
  std::vector<Sample> samples;
  unsigned discarded = 0;
  std::string why_void = {};
};

/// Calls `take` until `wanted` samples were not `preempted`, twice as often at most. When fewer
/// than half are clean, the others are kept for show, and the row is void.
template <class Take>
auto take_rounds(unsigned wanted, Take take) -> rounds_taken<std::invoke_result_t<Take>> {
  rounds_taken<std::invoke_result_t<Take>> clean;
  auto preempted = clean.samples;
  for (unsigned tries = 0; tries < 2 * wanted && clean.samples.size() < wanted; ++tries) {
    auto sample = take();
    (sample.preempted ? preempted : clean.samples).push_back(std::move(sample));
  }
  clean.discarded = static_cast<unsigned>(preempted.size());
  if (2 * clean.samples.size() < wanted) {
    clean.samples.insert(clean.samples.end(), preempted.begin(), preempted.end());
    clean.why_void = "preempted";
  }
  return clean;
}

}  // namespace runnel::bench
