// Goal: memory that is to stand in for other memory does so whole, at the same addresses, or not at
// all. Method: maps of memfds, replaced and touched.
#include "mempool/stand_in.h"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <iterator>

#include "mempool/base/unique_fd.h"
#include "tests/sim/edge_numbers.h"

namespace runnel {
namespace {

using sim::page;

TEST(StandIn, TakesThePlaceOfSomePagesAndLeavesTheFileAndTheOthersAlone) {
  for (const std::byte filler : {std::byte{0}, std::byte{0xff}}) {
    const unique_fd file{::memfd_create("stood in for", MFD_CLOEXEC)};
    ASSERT_EQ(::ftruncate(file.get(), 3 * page), 0);
    void* const at = ::mmap(nullptr, 3 * page, PROT_READ | PROT_WRITE, MAP_SHARED, file.get(), 0);
    ASSERT_NE(at, MAP_FAILED);
    const std::span all{static_cast<std::byte*>(at), 3 * page};
    std::ranges::fill(all, std::byte{7});
    ASSERT_TRUE(put_stand_in(all.subspan(page, page), filler).has_value());
    EXPECT_EQ(std::ranges::count(all.first(page), std::byte{7}), std::ssize(all.first(page)));
    EXPECT_EQ(std::ranges::count(all.subspan(page, page), filler),
              std::ssize(all.subspan(page, page)));
    EXPECT_EQ(std::ranges::count(all.last(page), std::byte{7}), std::ssize(all.last(page)));
    all[page] = std::byte{8};
    std::byte in_file{};
    EXPECT_EQ(::pread(file.get(), &in_file, 1, page), 1);
    EXPECT_EQ(in_file, std::byte{7});
    ::munmap(at, all.size());
  }
}

TEST(StandIn, WhatCannotBeReplacedStays) {
  alignas(page) static std::byte ours[2 * page]{std::byte{7}};
  const auto refused = put_stand_in({ours + 1, page}, std::byte{0xff});
  EXPECT_EQ(refused.error().code, errc::os);
  EXPECT_EQ(ours[0], std::byte{7});
  EXPECT_EQ(ours[1], std::byte{0});
}

}  // namespace
}  // namespace runnel
