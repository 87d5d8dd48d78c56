// Goal: the memory of clients is given bus addresses that every IOMMU translates, one place each.
// Method: spans of addresses, of which nothing is touched.
#include "drivers/vfio_user/bus_space.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <utility>

#include "drivers/vfio_user/client_memory.h"
#include "drivers/vfio_user/server_testing.h"

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

TEST(BusSpace, ClientsOfOneAreSeenByDevicesAtPlacesOfTheirOwnThatAreGivenBack) {
  constexpr std::uint64_t page = 4 * kib;
  const unique_fd file = testing::make_memory(4 * page);
  bus_space bus;
  const auto map = [&](client_memory& memory) {
    unique_fd same{::dup(file.get())};
    return *memory.map(iova{0}, 4 * page, access::read_write, std::move(same), 0);
  };
  for (int round = 0; round < 2; ++round) {
    client_memory one{std::move(*client_memory::create(2, &bus))};
    client_memory other{std::move(*client_memory::create(2, &bus))};
    const region* const of_one = map(one);
    const region* const of_other = map(other);
    EXPECT_EQ(raw(of_one->first_iova()), bus_space::first) << round;
    EXPECT_EQ(raw(of_other->first_iova()), bus_space::first + 4 * page);
    EXPECT_EQ(raw(of_one->to_iova(of_one->address + page)), bus_space::first + page);
    EXPECT_EQ(one.unmap(iova{0}, 4 * page), 1U);
    EXPECT_FALSE(other.unmap_some(0));
    EXPECT_TRUE(other.unmap_some(1));
  }
}

}  // namespace
}  // namespace runnel::vfio_user
