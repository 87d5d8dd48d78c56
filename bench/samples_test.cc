// Goal: the statistics behind verdicts. Method: samples small enough to work them out by hand.
#include "bench/samples.h"

#include <gtest/gtest.h>

namespace runnel::bench {
namespace {

TEST(Samples, QuantilesAreValuesOfTheSample) {
  const std::vector<double> values{5, 1, 4, 2, 3};
  EXPECT_EQ(quantile_of(values, 0.2), 1);
  EXPECT_EQ(quantile_of(values, 0.21), 2);
  EXPECT_EQ(quantile_of(values, 1), 5);
  EXPECT_EQ(median_of(values), 3);
  EXPECT_EQ(median_of({1, 2}), 2);
}

TEST(Samples, SpreadIsNotMovedByOneWildValue) {
  EXPECT_EQ(spread_of({10, 11, 12, 13, 1000}), 1);
}

TEST(Samples, EqualSamplesAreNoEvidence) {
  EXPECT_EQ(mann_whitney_p({1, 2, 3}, {1, 2, 3}), 1);
  EXPECT_EQ(mann_whitney_p({7}, {7}), 1);
}

// U = 0 of 25: z = (12.5 - 0.5) / sqrt(25 * 11 / 12) = 2.507.
TEST(Samples, SamplesThatDoNotOverlapAreEvidenceFromEitherSide) {
  EXPECT_NEAR(mann_whitney_p({1, 2, 3, 4, 5}, {6, 7, 8, 9, 10}), 0.0122, 0.0001);
  EXPECT_NEAR(mann_whitney_p({6, 7, 8, 9, 10}, {1, 2, 3, 4, 5}), 0.0122, 0.0001);
}

TEST(Samples, OneWildValueIsNoEvidence) {
  EXPECT_GT(mann_whitney_p({1, 3, 5, 7, 1e9}, {2, 4, 6, 8, 10}), 0.5);
}

}  // namespace
}  // namespace runnel::bench
