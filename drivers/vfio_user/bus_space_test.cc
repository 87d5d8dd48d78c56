// Goal: the memory of clients is given bus addresses that every IOMMU translates, one place each.
// Method: spans of addresses, of which nothing is touched.
#include "drivers/vfio_user/bus_space.h"

#include <gtest/gtest.h>

namespace runnel::vfio_user {
namespace {

std::span<const std::byte> at(std::uintptr_t address, std::uint64_t bytes) {
  return {reinterpret_cast<const std::byte*>(address), bytes};
}

TEST(BusSpace, PlacesAreDisjointLowAndAlignedAsTheMemoryIs) {
  bus_space space;
  const auto large = at(0x7e01'0010'0000, 4 * gib);
  const auto small = at(0x7e02'0000'3000, 3 * 4 * kib);
  const auto one = space.take(large);
  const auto two = space.take(small);
  ASSERT_TRUE(one && two);
  EXPECT_EQ(*one % gib, 0x10'0000U);
  EXPECT_EQ(*two % (4 * kib), 0U);
  for (const auto& [place, bytes] :
       {std::pair{*one, large.size()}, std::pair{*two, small.size()}}) {
    EXPECT_GE(place, bus_space::first);
    EXPECT_LE(place + bytes, bus_space::end);
  }
  EXPECT_TRUE(*one + large.size() <= *two || *two + small.size() <= *one);
}

TEST(BusSpace, WhatIsGivenBackIsGivenAgainAndTooMuchIsRefused) {
  bus_space space;
  const auto most = at(0x7e00'0000'0000, bus_space::end - bus_space::first);
  for (int round = 0; round < 3; ++round) {
    const auto place = space.take(most);
    ASSERT_EQ(place, bus_space::first);
    EXPECT_FALSE(space.take(at(0x7f00'0000'0000, 4 * kib)));
    space.give_back(*place, most);
  }
}

}  // namespace
}  // namespace runnel::vfio_user
