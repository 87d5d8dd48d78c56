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

TEST(Samples, ValuesAboutZeroAreNoEvidence) {
  EXPECT_EQ(signed_rank_p({0}), 1);
  EXPECT_EQ(signed_rank_p({0, 0, 0}), 1);
  EXPECT_EQ(signed_rank_p({-3, -2, -1, 1, 2, 3}), 1);
  EXPECT_EQ(signed_rank_p({7}), 1);
}

// W = 36 of 36: z = (36 - 18 - 0.5) / sqrt(8 * 9 * 17 / 24) = 2.450.
TEST(Samples, ValuesOfOneSideAreEvidenceFromEither) {
  EXPECT_NEAR(signed_rank_p({1, 2, 3, 4, 5, 6, 7, 8}), 0.0143, 0.0001);
  EXPECT_NEAR(signed_rank_p({-1, -2, -3, -4, -5, -6, -7, -8}), 0.0143, 0.0001);
}

// Ranks 1.5, 1.5, 3: W = 4.5 of 6: z = (4.5 - 3 - 0.5) / sqrt(3 * 4 * 7 / 24) = 0.535.
TEST(Samples, TiesShareTheirRanks) {
  EXPECT_NEAR(signed_rank_p({1, -1, 2}), 0.5930, 0.0001);
}

TEST(Samples, OneWildValueWeighsNoMoreThanTheLargest) {
  EXPECT_EQ(signed_rank_p({-1, 2, 3, 4, 1e9}), signed_rank_p({-1, 2, 3, 4, 5}));
}

}  // namespace
}  // namespace runnel::bench
