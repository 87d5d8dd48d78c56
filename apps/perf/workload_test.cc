// What perf does next: the offsets and directions of every pattern.

#include "apps/perf/workload.h"

#include <gtest/gtest.h>

#include <array>
#include <vector>

namespace runnel::perf {
namespace {

constexpr std::uint64_t slots = 64;
constexpr int draws = 64'000;

TEST(Workload, RandomOffsetsAreUniformOverTheWholeNamespace) {
  workload load{pattern::randread, slots, 0, 1};
  std::array<int, slots> hits{};
  for (int i = 0; i < draws; ++i) {
    const io_choice io = load.next();
    ASSERT_LT(io.slot, slots);
    EXPECT_FALSE(io.is_write);
    ++hits[io.slot];
  }
  for (const int count : hits) {
    EXPECT_NEAR(count, draws / static_cast<double>(slots), 200);
  }
}

TEST(Workload, SequentialPatternsWrapAround) {
  for (const pattern rw : {pattern::read, pattern::write}) {
    workload load{rw, 3, 1, 1};
    for (const std::uint64_t expected : {1U, 2U, 0U, 1U}) {
      const io_choice io = load.next();
      EXPECT_EQ(io.slot, expected);
      EXPECT_EQ(io.is_write, rw == pattern::write);
    }
  }
}

TEST(Workload, MixedPatternIsHalfReadsHalfWrites) {
  workload load{pattern::randrw, slots, 0, 1};
  int writes = 0;
  for (int i = 0; i < draws; ++i) {
    writes += load.next().is_write ? 1 : 0;
  }
  EXPECT_NEAR(writes, draws / 2.0, 1'000);
}

TEST(Workload, SameSeedGivesTheSameOffsets) {
  workload one{pattern::randwrite, slots, 0, 7};
  workload same{pattern::randwrite, slots, 0, 7};
  workload other{pattern::randwrite, slots, 0, 8};
  int differences = 0;
  for (int i = 0; i < 100; ++i) {
    const std::uint64_t slot = one.next().slot;
    EXPECT_EQ(slot, same.next().slot);
    differences += slot != other.next().slot ? 1 : 0;
  }
  EXPECT_GT(differences, 50);
}

}  // namespace
}  // namespace runnel::perf
