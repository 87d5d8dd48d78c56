// Goal: what is free is found, whatever was taken and given back before, and never given twice.
// Method: the cases of splitting and joining, then random ones beside a list of taken bytes.

#include "drivers/vfio_user/free_extents.h"

#include <gtest/gtest.h>

#include <iterator>
#include <map>
#include <random>

namespace runnel::vfio_user {
namespace {

TEST(FreeExtents, APartIsSplitAndItsNeighboursJoinAgain) {
  free_extents space{12};
  EXPECT_EQ(space.take(4, 1), 0U);
  EXPECT_EQ(space.take(4, 1), 4U);
  EXPECT_EQ(space.take(4, 1), 8U);
  EXPECT_EQ(space.take(1, 1).error().code, errc::no_memory);
  space.give_back(0, 4);
  space.give_back(8, 4);
  EXPECT_EQ(space.take(5, 1).error().code, errc::no_memory);
  space.give_back(4, 4);
  EXPECT_EQ(space.take(12, 1), 0U);
}

TEST(FreeExtents, AlignmentLeavesWhatIsBeforeItFree) {
  free_extents space{16};
  EXPECT_EQ(space.take(1, 1), 0U);
  EXPECT_EQ(space.take(8, 8), 8U);
  EXPECT_EQ(space.take(8, 8).error().code, errc::no_memory);
  EXPECT_EQ(space.take(7, 1), 1U);
}

TEST(FreeExtents, NothingIsGivenTwiceAndAllComesTogetherInTheEnd) {
  constexpr std::uint64_t bytes = 256;
  constexpr std::uint64_t seed = 20261121;
  SCOPED_TRACE(seed);
  std::mt19937_64 random{seed};
  free_extents space{bytes};
  std::map<std::uint64_t, std::uint64_t> taken;
  for (int step = 0; step < 4000; ++step) {
    if (random() % 2 == 0 && !taken.empty()) {
      const auto gone = std::next(taken.begin(), static_cast<long>(random() % taken.size()));
      space.give_back(gone->first, gone->second);
      taken.erase(gone);
      continue;
    }
    const std::uint64_t wanted = 1 + random() % 16;
    const std::uint64_t alignment = std::uint64_t{1} << random() % 4;
    const auto offset = space.take(wanted, alignment);
    if (!offset) {
      continue;
    }
    ASSERT_EQ(*offset % alignment, 0U);
    ASSERT_LE(*offset + wanted, bytes);
    const auto above = taken.lower_bound(*offset);
    ASSERT_TRUE(above == taken.end() || *offset + wanted <= above->first);
    ASSERT_TRUE(above == taken.begin() ||
                std::prev(above)->first + std::prev(above)->second <= *offset);
    taken[*offset] = wanted;
  }
  for (const auto& [offset, length] : taken) {
    space.give_back(offset, length);
  }
  EXPECT_EQ(space.take(bytes, 1), 0U);
}

}  // namespace
}  // namespace runnel::vfio_user
