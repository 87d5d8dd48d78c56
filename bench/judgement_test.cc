// Goal: two builds are judged right on a machine that is not quiet. Method: made-up pairs of runs,
// many comparisons of each kind, from a fixed seed; each kind may go wrong once in ten.
#include "bench/judgement.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <random>
#include <string>

namespace runnel::bench {
namespace {

constexpr std::size_t pairs = 61;
constexpr int comparisons = 200;
constexpr int right_min = comparisons * 9 / 10;

struct machine {
  double noise = 0.02;      // of a run, a standard deviation
  double drift = 0;         // from the first pair to the last
  double stall_chance = 0;  // of a run, that it takes up to twice its time
  bool flips = false;  // within the middle pair to a state in which all takes 3.5 times as long
};

/// The ratios of one comparison on such a machine, with a B that takes `cost` times A's time.
std::vector<double> compare(const machine& where, double cost, std::mt19937& random) {
  std::normal_distribution<double> noise{1, where.noise};
  std::uniform_real_distribution<double> chance{0, 1};
  const auto run = [&](std::size_t index, double takes) {
    const double place = static_cast<double>(index) / (2 * pairs);
    const double stall = chance(random) < where.stall_chance ? 1 + chance(random) : 1;
    const double state = where.flips && index > pairs ? 3.5 : 1;  // index is odd in the second half
    return takes * noise(random) * (1 + where.drift * place) * stall * state;
  };
  std::vector<double> ratios;
  for (std::size_t pair = 0; pair < pairs; ++pair) {
    const bool b_first = pair % 2 != 0;
    const double a = run(2 * pair + (b_first ? 1 : 0), 1);
    const double b = run(2 * pair + (b_first ? 0 : 1), cost);
    ratios.push_back(b / a);
  }
  return ratios;
}

struct machine_case {
  const char* name;
  machine where;
};

const machine_case machines[] = {
    {"quiet", {.noise = 0.005}},
    {"noisy", {.noise = 0.05}},
    {"drifting", {.drift = 0.5}},
    {"stalling", {.stall_chance = 0.1}},
    {"flipping", {.flips = true}},
    {"all at once", {.noise = 0.04, .drift = 0.2, .stall_chance = 0.05, .flips = true}},
};

class Judgement : public testing::TestWithParam<machine_case> {
 public:
  /// How many of the comparisons end with this verdict.
  static int count(const std::string& verdict, double cost) {
    std::mt19937 random{1};
    int found = 0;
    for (int i = 0; i < comparisons; ++i) {
      found += judge_pairs(compare(GetParam().where, cost, random)).verdict == verdict ? 1 : 0;
    }
    return found;
  }
};

TEST_P(Judgement, EqualBuildsAreEqual) {
  EXPECT_GE(count("equal", 1), right_min);
}

TEST_P(Judgement, FivePercentMoreAreSlower) {
  EXPECT_GE(count("slower", 1.05), right_min);
}

TEST_P(Judgement, FivePercentLessAreFaster) {
  EXPECT_GE(count("faster", 1 / 1.05), right_min);
}

INSTANTIATE_TEST_SUITE_P(Machines, Judgement, testing::ValuesIn(machines), [](const auto& one) {
  std::string name = one.param.name;
  std::erase(name, ' ');
  return name;
});

TEST(JudgementOf, OnePairIsNoEvidence) {
  EXPECT_STREQ(judge_pairs({2}).verdict, "equal");
}

TEST(JudgementOf, LessThanIsWorthAWordIsEqualHoweverCertain) {
  const judgement found = judge_pairs(std::vector<double>(100, 1.01));
  EXPECT_STREQ(found.verdict, "equal");
  EXPECT_LT(found.p, 0.001);
}

}  // namespace
}  // namespace runnel::bench
