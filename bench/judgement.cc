#include "bench/judgement.h"

#include <algorithm>
#include <cmath>

#include "bench/samples.h"

namespace runnel::bench {
namespace {

// Both must be there: a difference that chance hardly makes, and one that is worth a word.
constexpr double chance_max = 0.01;
constexpr double difference_min = 0.015;
// In spreads from the median; chance does not go so far, a machine that changes meanwhile does.
constexpr double wild_min = 5;

unsigned drop_wild_ones(std::vector<double>& distances) {
  const double middle = median_of(distances);
  const double far = wild_min * spread_of(distances);
  return static_cast<unsigned>(
      std::erase_if(distances, [=](double one) { return std::abs(one - middle) > far; }));
}

}  // namespace

judgement judge_pairs(const std::vector<double>& ratios) {
  // Logarithms: twice and half as fast are as far from equal.
  auto distances = column(ratios, [](double ratio) { return std::log(ratio); });
  const unsigned wild = drop_wild_ones(distances);
  judgement found{.ratio = median_of(ratios), .p = signed_rank_p(distances), .wild = wild};
  const double difference = std::max(found.ratio, 1 / found.ratio) - 1;
  if (found.p <= chance_max && difference >= difference_min) {
    found.verdict = found.ratio > 1 ? "slower" : "faster";
  }
  return found;
}

}  // namespace runnel::bench
