#pragma once

#include <vector>

namespace runnel::bench {

/// What pairs of runs say of build B, next to A.
struct judgement {
  const char* verdict = "equal";  // or "slower", "faster"
  double ratio = 1;               // of B's time to A's, median of the pairs
  double p = 1;                   // how likely equal builds differ as much
  unsigned wild = 0;              // pairs that were left out
};

/// Judges by the pairs' ratios alone: the machine is not the same from one pair to the next, but
/// nearly so within one. Pairs in which it changed all the same are few, wild, and left out.
/// @param ratios  of B's time to A's, one for each pair. @pre not empty
[[nodiscard]] judgement judge_pairs(const std::vector<double>& ratios);

}  // namespace runnel::bench
