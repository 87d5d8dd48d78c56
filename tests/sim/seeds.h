#pragma once

#include <gtest/gtest.h>

#include <cstdint>

// Tests that run once for each of many seeds. RUNNEL_SIM_SEEDS=N runs N seeds instead of the usual
// number, RUNNEL_SIM_SEED=N just seed N; whatever ends a run names its seed and how to replay it.
namespace runnel::sim {

/// Builds that are slow run one of so many seeds.
#if defined(__OPTIMIZE__) && !defined(__SANITIZE_ADDRESS__) && !defined(__clang__)
inline constexpr std::uint64_t seeds_divisor = 1;
#else
inline constexpr std::uint64_t seeds_divisor = 10;
#endif

struct seed_range {
  std::uint64_t first = 1;
  std::uint64_t count = 0;
};

/// What the environment and the build make of the usual number.
[[nodiscard]] seed_range seeds_to_run(std::uint64_t usual);

/// While it lives, a process that dies says so: failed CHECKs, signals, sanitizers.
class seed_under_test {
 public:
  explicit seed_under_test(std::uint64_t seed);
  seed_under_test(const seed_under_test&) = delete;
  seed_under_test& operator=(const seed_under_test&) = delete;
  ~seed_under_test();
};

/// Adds to a failed test which seed it was.
void report_failed_seed(std::uint64_t seed);

/// Calls `one` with each seed, until one fails. @return how many were run
template <class One>
std::uint64_t for_each_seed(std::uint64_t usual, One&& one) {
  const seed_range range = seeds_to_run(usual);
  for (std::uint64_t i = 0; i < range.count; ++i) {
    const seed_under_test guard{range.first + i};
    one(range.first + i);
    if (testing::Test::HasFailure()) {
      report_failed_seed(range.first + i);
      return i + 1;
    }
  }
  return range.count;
}

/// One seed has one history, and another has another. @param history_of  the hash of a seed's
template <class History>
void expect_seeds_decide(History&& history_of) {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    SCOPED_TRACE(seed);
    const std::uint64_t hash = history_of(seed);
    EXPECT_EQ(history_of(seed), hash);
    EXPECT_NE(history_of(seed + 100), hash);
  }
}

}  // namespace runnel::sim
