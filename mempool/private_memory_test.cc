// Goal: private memory is zeroed, writable, aligned for huge pages and gone when its owner is.
// Method: real mappings, asked back from the kernel.
#include "mempool/private_memory.h"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <utility>
#include <vector>

#include "mempool/base/bits.h"
#include "mempool/base/units.h"

namespace runnel {
namespace {

private_memory make(std::size_t bytes) {
  auto made = private_memory::create(bytes);
  EXPECT_TRUE(made) << made.error().message();
  return std::move(*made);
}

bool is_mapped(const std::byte* page) {
  unsigned char resident = 0;
  return mincore(const_cast<std::byte*>(page), 4096, &resident) == 0;
}

TEST(PrivateMemory, IsZeroedExactlyAsLongAsAskedAndHugePageAligned) {
  const private_memory memory = make(3 * mib + 512);
  EXPECT_EQ(memory.bytes().size(), 3 * mib + 512);
  EXPECT_TRUE(is_aligned(reinterpret_cast<std::uintptr_t>(memory.bytes().data()), 2 * mib));
  EXPECT_TRUE(std::ranges::all_of(memory.bytes(), [](std::byte b) { return b == std::byte{0}; }));
  memory.bytes().front() = std::byte{1};
  memory.bytes().back() = std::byte{2};
}

TEST(PrivateMemory, EveryPageIsThereFromTheStart) {
  const private_memory memory = make(4 * mib);
  std::vector<unsigned char> resident(memory.bytes().size() / 4096);
  ASSERT_EQ(mincore(memory.bytes().data(), memory.bytes().size(), resident.data()), 0);
  EXPECT_TRUE(std::ranges::all_of(resident, [](unsigned char page) { return (page & 1U) != 0; }));
}

TEST(PrivateMemory, MovesAndIsUnmappedOnce) {
  const std::byte* first_page = nullptr;
  {
    private_memory first = make(2 * mib);
    first_page = first.bytes().data();
    private_memory second{std::move(first)};
    first = make(2 * mib);
    first = std::move(second);
    EXPECT_EQ(first.bytes().data(), first_page);
    EXPECT_TRUE(is_mapped(first_page));
  }
  EXPECT_FALSE(is_mapped(first_page));
}

TEST(PrivateMemory, MoreThanThereIsIsRefusedWithTheNumberToChange) {
  for (const std::size_t bytes : {std::size_t{1} << 50U, ~std::size_t{0}}) {
    auto made = private_memory::create(bytes);
    ASSERT_FALSE(made);
    EXPECT_EQ(made.error().what.code, errc::no_memory);
    EXPECT_NE(made.error().message().find("MemAvailable"), std::string::npos);
  }
}

}  // namespace
}  // namespace runnel
