// Goal: what several devices asked for stays mapped until the last one gave it up.
// Method: regions that are equal, apart, and in each other's way.
#include "drivers/vfio/counted_maps.h"

#include <gtest/gtest.h>

#include <array>

#include "tests/sim/edge_numbers.h"

namespace runnel::vfio {
namespace {

using sim::page;

class CountedMaps : public testing::Test {
 protected:
  [[nodiscard]] region make(std::size_t at, std::size_t pages, std::uint64_t first) {
    region made;
    made.address = memory.data() + at * page;
    made.length = pages * page;
    made.iova_offset = first - reinterpret_cast<std::uintptr_t>(made.address);
    return made;
  }

  alignas(page) std::array<std::byte, 4 * page> memory{};
  counted_maps maps;
};

TEST_F(CountedMaps, TheLastToGiveARegionUpIsTold) {
  const region shared = make(0, 2, 0x10000);
  EXPECT_EQ(maps.add(shared), 1U);
  EXPECT_EQ(maps.add(shared), 2U);
  EXPECT_EQ(maps.size(), 1U);
  EXPECT_EQ(maps.give_up(shared), 1U);
  EXPECT_EQ(maps.give_up(shared), 0U);
  EXPECT_EQ(maps.give_up(shared), std::nullopt);
}

TEST_F(CountedMaps, WhatNobodyAsksForIsInTheWayUntilItIsErased) {
  const region piece = make(0, 2, 0x10000);
  ASSERT_EQ(maps.add(piece), 1U);
  ASSERT_EQ(maps.give_up(piece), 0U);
  EXPECT_FALSE(maps.holds(piece));
  EXPECT_EQ(maps.add(piece), 0U) << "a device may still reach what was there";
  EXPECT_EQ(maps.size(), 1U);
  maps.erase(piece);
  EXPECT_EQ(maps.size(), 0U);
  EXPECT_EQ(maps.add(piece), 1U);
}

TEST_F(CountedMaps, OthersInTheWayAreRefusedOnBothSides) {
  ASSERT_EQ(maps.add(make(0, 2, 0x10000)), 1U);
  EXPECT_EQ(maps.add(make(2, 1, 0x10000)), 0U) << "other memory";
  EXPECT_EQ(maps.add(make(0, 1, 0x10000)), 0U) << "a part";
  EXPECT_EQ(maps.add(make(2, 1, 0x11000)), 0U);
  EXPECT_EQ(maps.add(make(2, 2, 0xf000)), 0U);
  EXPECT_EQ(maps.add(make(2, 1, 0xf000)), 1U);
  EXPECT_EQ(maps.add(make(3, 1, 0x12000)), 1U);
}

TEST_F(CountedMaps, OnlyTheSameRegionIsTheSame) {
  const region whole = make(0, 2, 0x10000);
  ASSERT_EQ(maps.add(whole), 1U);
  region narrower = whole;
  narrower.permissions = access::read;
  EXPECT_EQ(maps.add(narrower), 0U);
  EXPECT_EQ(maps.give_up(narrower), std::nullopt);
  EXPECT_EQ(maps.give_up(make(0, 1, 0x10000)), std::nullopt);
}

}  // namespace
}  // namespace runnel::vfio
