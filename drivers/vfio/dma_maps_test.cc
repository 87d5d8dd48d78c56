// Goal: a device reaches by message exactly what was mapped for it. Method: ranges around borders.
#include "drivers/vfio/dma_maps.h"

#include <gtest/gtest.h>

#include <array>

#include "tests/sim/edge_numbers.h"

namespace runnel::vfio {
namespace {

using sim::page;
using sim::top;

class DmaMaps : public testing::Test {
 protected:
  /// `pages` pages of our memory from number `at`, seen by the device from `first`.
  [[nodiscard]] region make(std::size_t at, std::size_t pages, std::uint64_t first,
                            access permissions = access::read_write) {
    region made;
    made.address = memory.data() + at * page;
    made.length = pages * page;
    made.iova_offset = first - reinterpret_cast<std::uintptr_t>(made.address);
    made.permissions = permissions;
    return made;
  }
  [[nodiscard]] const std::byte* find(std::uint64_t first, std::uint64_t bytes,
                                      access wanted = access::read_write) const {
    return maps.find(iova{first}, bytes, wanted);
  }

  alignas(page) std::array<std::byte, 8 * page> memory{};
  dma_maps maps;
};

TEST_F(DmaMaps, OnlyRangesInsideOneRegionAreFound) {
  ASSERT_TRUE(maps.add(make(0, 2, 0x10000)));
  ASSERT_TRUE(maps.add(make(4, 1, 0x12000)));
  EXPECT_EQ(find(0x10000, 2 * page), memory.data());
  EXPECT_EQ(find(0x11fff, 1), memory.data() + 2 * page - 1);
  EXPECT_EQ(find(0x12010, 16), memory.data() + 4 * page + 16);
  EXPECT_EQ(find(0xffff, 1), nullptr);
  EXPECT_EQ(find(0x11fff, 2), nullptr) << "our memory is not contiguous there";
  EXPECT_EQ(find(0x13000, 1), nullptr);
  EXPECT_EQ(find(0x10000, top), nullptr);
  EXPECT_EQ(find(top, 2), nullptr);
}

TEST_F(DmaMaps, PermissionsAreKept) {
  ASSERT_TRUE(maps.add(make(0, 1, 0x10000, access::read)));
  EXPECT_NE(find(0x10000, 8, access::read), nullptr);
  EXPECT_EQ(find(0x10000, 8, access::write), nullptr);
}

TEST_F(DmaMaps, OverlapIsRefusedOnBothSides) {
  ASSERT_TRUE(maps.add(make(0, 2, 0x10000)));
  EXPECT_FALSE(maps.add(make(2, 1, 0x10000)));
  EXPECT_FALSE(maps.add(make(2, 1, 0x11000)));
  EXPECT_FALSE(maps.add(make(2, 2, 0xf000)));
  EXPECT_TRUE(maps.add(make(2, 1, 0xf000)));
  EXPECT_EQ(maps.size(), 2U);
}

TEST_F(DmaMaps, TheLastPageOfTheBusCanBeMapped) {
  ASSERT_TRUE(maps.add(make(0, 1, top - page + 1)));
  EXPECT_EQ(find(top, 1), memory.data() + page - 1);
  EXPECT_EQ(find(top, 2), nullptr);
}

TEST_F(DmaMaps, OnlyWholeRegionsAreRemovedAndThenNothingIsThere) {
  ASSERT_TRUE(maps.add(make(0, 2, 0x10000)));
  EXPECT_FALSE(maps.remove(iova{0x10000}, page));
  EXPECT_FALSE(maps.remove(iova{0x11000}, page));
  EXPECT_FALSE(maps.remove(iova{0}, page));
  EXPECT_TRUE(maps.remove(iova{0x10000}, 2 * page));
  EXPECT_EQ(find(0x10000, 1), nullptr);
  EXPECT_FALSE(maps.remove(iova{0x10000}, 2 * page));
}

}  // namespace
}  // namespace runnel::vfio
