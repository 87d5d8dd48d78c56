// Goal: quantiles of latencies can be trusted to 0.8 % over all magnitudes. Method: known sets of
// values, and the bucket bounds themselves over every power of two.

#include "runtime/histogram.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <random>
#include <vector>

namespace runnel {
namespace {

TEST(Histogram, EmptyOneAnswersZero) {
  const auto empty = std::make_unique<histogram>();
  EXPECT_EQ(empty->count(), 0U);
  EXPECT_EQ(empty->min(), 0U);
  EXPECT_EQ(empty->max(), 0U);
  EXPECT_EQ(empty->mean(), 0.0);
  EXPECT_EQ(empty->quantile(0.99), 0U);
}

TEST(Histogram, SmallValuesAreExact) {
  const auto values = std::make_unique<histogram>();
  for (std::uint64_t value = 1; value <= 200; ++value) {
    values->record(value);
  }
  EXPECT_EQ(values->quantile(0.0), 1U);
  EXPECT_EQ(values->quantile(0.5), 100U);
  EXPECT_EQ(values->quantile(0.99), 198U);
  EXPECT_EQ(values->quantile(1.0), 200U);
  EXPECT_EQ(values->min(), 1U);
  EXPECT_EQ(values->max(), 200U);
  EXPECT_DOUBLE_EQ(values->mean(), 100.5);
}

TEST(Histogram, BucketsCoverEveryValueOnceWithinTheStatedResolution) {
  for (unsigned bit = 0; bit < 64; ++bit) {
    for (const std::uint64_t offset : {std::uint64_t{0}, std::uint64_t{1}, ~std::uint64_t{0}}) {
      const std::uint64_t value = (std::uint64_t{1} << bit) + offset;  // and one below
      const auto one = std::make_unique<histogram>();
      one->record(value);
      int buckets = 0;
      one->for_each_bucket([&](std::uint64_t low, std::uint64_t high, std::uint64_t count) {
        ++buckets;
        EXPECT_EQ(count, 1U);
        EXPECT_LE(low, value);
        EXPECT_GE(high, value);
        EXPECT_EQ(high - low + 1, histogram::resolution_at(value));
        EXPECT_LE(static_cast<double>(high - low), 0.008 * static_cast<double>(value));
      });
      EXPECT_EQ(buckets, 1);
      EXPECT_EQ(one->quantile(0.5), value) << "one value is also the maximum";
    }
  }
}

TEST(Histogram, QuantilesOfRandomValuesAreWithinTheResolution) {
  constexpr std::uint32_t seed = 4711;
  RecordProperty("seed", static_cast<int>(seed));
  std::mt19937_64 random{seed};
  std::vector<std::uint64_t> sorted;
  const auto values = std::make_unique<histogram>();
  for (int count = 0; count < 100'000; ++count) {
    sorted.push_back(random() >> (random() % 50));
    values->record(sorted.back());
  }
  std::sort(sorted.begin(), sorted.end());
  for (const double fraction : {0.01, 0.5, 0.9, 0.99, 0.999}) {
    const auto exact =
        sorted[static_cast<std::size_t>(fraction * static_cast<double>(sorted.size())) - 1];
    const std::uint64_t answer = values->quantile(fraction);
    EXPECT_GE(answer, exact);
    EXPECT_LE(answer - exact, histogram::resolution_at(exact));
  }
}

TEST(Histogram, MergedOnesAreAsIfRecordedTogether) {
  const auto low = std::make_unique<histogram>();
  const auto high = std::make_unique<histogram>();
  low->record(10);
  high->record(1'000'000);
  high->record(20);
  low->merge(*high);
  EXPECT_EQ(low->count(), 3U);
  EXPECT_EQ(low->min(), 10U);
  EXPECT_EQ(low->max(), 1'000'000U);
  EXPECT_EQ(low->quantile(0.5), 20U);
  low->merge(*std::make_unique<histogram>());
  EXPECT_EQ(low->min(), 10U);
  low->clear();
  EXPECT_EQ(low->count(), 0U);
}

}  // namespace
}  // namespace runnel
