// Goal: pieces of the window never overlap, come back whole, and misuse aborts. Method: a real
// window, a seeded random mix checked against a model, and death tests.
#include "mempool/window.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "mempool/base/bits.h"
#include "mempool/base/sanitizer.h"

namespace runnel {
namespace {

window make_window(std::size_t bytes = mib) {
  auto made = window::create({.bytes = bytes, .huge = false});
  EXPECT_TRUE(made) << made.error().message();
  return std::move(*made);
}

TEST(Window, IsOneRegionWhoseBusAddressIsItsAddress) {
  const window memory = make_window();
  const region& all = memory.memory();
  EXPECT_EQ(all.length, mib);
  EXPECT_EQ(raw(all.to_iova(all.address + 5)), reinterpret_cast<std::uintptr_t>(all.address) + 5);
  EXPECT_EQ(all.permissions, access::read_write);
  EXPECT_GE(all.fd, 0);
  EXPECT_EQ(all.fd_offset, 0U);
}

TEST(Window, LiesLowWhereTheAddressesAreFree) {
#if defined(RUNNEL_THREAD_SANITIZER)
  GTEST_SKIP() << "the sanitizer decides where memory goes";
#endif
  const window memory = make_window();
  EXPECT_LT(raw(memory.memory().first_iova()), std::uint64_t{1} << 39U);
}

TEST(Window, DevicesSeeItElsewhereWhileNobodyUsesIt) {
  window memory = make_window();
  std::byte* const address = memory.memory().address;
  EXPECT_TRUE(memory.place_at(iova{0x1234'0000}));
  EXPECT_EQ(memory.memory().to_iova(address + 5), iova{0x1234'0005});
  const auto piece = memory.allocate(64, 64);
  ASSERT_TRUE(piece.has_value());
  EXPECT_FALSE(memory.place_at(iova{0x5678'0000}));
  EXPECT_TRUE(memory.place_at(iova{0x1234'0000})) << "where it is";
  EXPECT_EQ(memory.memory().first_iova(), iova{0x1234'0000});
  memory.quarantine(*piece);
  EXPECT_FALSE(memory.place_at(iova{0x5678'0000})) << "a device may still reach it";
}

TEST(Window, SeveralWindowsLiveSideBySide) {
  const window first = make_window();
  const window second = make_window();
  EXPECT_FALSE(second.memory().contains(first.memory().address, 1));
  first.memory().address[0] = std::byte{1};
  EXPECT_EQ(second.memory().address[0], std::byte{0});
}

TEST(Window, MemoryIsWhatTheDescriptorShows) {
  window memory = make_window();
  auto piece = memory.allocate(4096, 4096);
  ASSERT_TRUE(piece);
  (*piece)[7] = std::byte{42};
  const region& all = memory.memory();
  std::byte seen{};
  const auto offset = static_cast<off_t>(all.fd_offset) + (piece->data() - all.address) + 7;
  ASSERT_EQ(pread(all.fd, &seen, 1, offset), 1);
  EXPECT_EQ(seen, std::byte{42});
}

TEST(Window, PiecesAreZeroedEvenWhenUsedBefore) {
  window memory = make_window();
  auto first = memory.allocate(4096, 64);
  ASSERT_TRUE(first);
  std::memset(first->data(), 0xff, first->size());
  memory.release(*first);
  auto second = memory.allocate(4096, 64);
  ASSERT_TRUE(second);
  ASSERT_EQ(second->data(), first->data());
  EXPECT_TRUE(
      std::all_of(second->begin(), second->end(), [](std::byte b) { return b == std::byte{0}; }));
}

TEST(Window, APieceComesFromTheShareOfItsNodeWhileThatHasRoom) {
  auto made = window::create(
      {.bytes = mib, .huge = false, .nodes = {numa_node{0}, numa_node{1}, numa_node{2}}});
  ASSERT_TRUE(made) << made.error().message();
  const std::byte* const start = made->memory().address;
  const std::size_t share = align_up(mib / 3, 4096);
  const auto first_of = [&](std::uint32_t node, std::size_t bytes) {
    const auto piece = made->allocate(bytes, 4096, numa_node{node});
    return piece ? piece->data() - start : -1;
  };
  EXPECT_EQ(first_of(1, 4096), share);
  EXPECT_EQ(first_of(2, 4096), 2 * share);
  EXPECT_EQ(first_of(0, share), 0);
  EXPECT_EQ(first_of(0, 4096), share + 4096);      // it has none left
  EXPECT_EQ(first_of(7, 4096), share + 2 * 4096);  // no share is near that
  EXPECT_EQ(first_of(1, share), -1);
}

TEST(Window, ANodeThatIsNamedTwiceHasTwoShares) {
  auto made = window::create(
      {.bytes = 300 * kib, .huge = false, .nodes = {numa_node{0}, numa_node{1}, numa_node{1}}});
  ASSERT_TRUE(made) << made.error().message();
  const auto piece = made->allocate(200 * kib, 4096, numa_node{1});
  ASSERT_TRUE(piece);
  EXPECT_EQ(piece->data() - made->memory().address, 100 * kib);
  EXPECT_FALSE(made->allocate(101 * kib, 4096, numa_node{0}));
}

TEST(Window, SharesLieOnTheirNodes) {
  std::vector<numa_node> nodes;
  while (std::filesystem::exists("/sys/devices/system/node/node" + std::to_string(nodes.size()))) {
    nodes.push_back(numa_node{static_cast<std::uint32_t>(nodes.size())});
  }
  ASSERT_FALSE(nodes.empty());
  auto made = window::create({.bytes = 4 * mib, .huge = false, .nodes = nodes});
  ASSERT_TRUE(made) << made.error().message();
  if (!made->placed()) {
    GTEST_SKIP() << "set_mempolicy is not permitted here";
  }
  for (const numa_node node : nodes) {
    const auto piece = made->allocate(64 * kib, 4096, node);
    ASSERT_TRUE(piece);
    EXPECT_EQ(node_of(piece->data()), node);
  }
}

TEST(Window, FullWindowRefusesAndServesAgainAfterARelease) {
  window memory = make_window();
  auto all = memory.allocate(mib, 4096);
  ASSERT_TRUE(all);
  EXPECT_EQ(memory.free_bytes(), 0U);
  auto refused = memory.allocate(1, 1);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, errc::no_memory);
  memory.release(*all);
  EXPECT_EQ(memory.free_bytes(), mib);
  EXPECT_TRUE(memory.allocate(mib, 4096));
}

TEST(Window, MoreThanTheWindowIsRefusedHoweverLarge) {
  window memory = make_window();
  EXPECT_FALSE(memory.allocate(mib + 1, 1));
  EXPECT_FALSE(memory.allocate(~std::size_t{0}, 4096));
}

TEST(Window, NeighboursMergeInEveryOrderOfRelease) {
  std::vector<std::size_t> order{0, 1, 2};
  do {
    window memory = make_window();
    std::vector<std::span<std::byte>> pieces;
    for (int i = 0; i < 3; ++i) {
      auto piece = memory.allocate(mib / 4, 64);
      ASSERT_TRUE(piece);
      pieces.push_back(*piece);
    }
    for (const std::size_t which : order) {
      memory.release(pieces[which]);
    }
    EXPECT_TRUE(memory.allocate(mib, 64));  // one hole again
  } while (std::next_permutation(order.begin(), order.end()));
}

TEST(Window, RandomPiecesNeverOverlapAndAllComeBack) {
  constexpr unsigned seed = 20240229;
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random{seed};
  window memory = make_window();
  std::vector<std::span<std::byte>> held;
  for (int step = 0; step < 20'000; ++step) {
    const std::size_t bytes = 1 + random() % 20'000;
    const std::size_t alignment = std::size_t{1} << (random() % 13);
    auto piece = memory.allocate(bytes, alignment);
    if (piece) {
      ASSERT_TRUE(is_aligned(reinterpret_cast<std::uintptr_t>(piece->data()), alignment));
      ASSERT_TRUE(memory.memory().contains(piece->data(), piece->size()));
      ASSERT_EQ(piece->size(), bytes);
      for (const auto& other : held) {
        ASSERT_FALSE(ranges_overlap(reinterpret_cast<std::uintptr_t>(piece->data()), bytes,
                                    reinterpret_cast<std::uintptr_t>(other.data()), other.size()));
      }
      held.push_back(*piece);
    }
    if (!held.empty() && (!piece || random() % 2 == 0)) {
      std::swap(held[random() % held.size()], held.back());
      memory.release(held.back());
      held.pop_back();
    }
  }
  for (const auto& piece : held) {
    memory.release(piece);
  }
  EXPECT_EQ(memory.free_bytes(), mib);
  EXPECT_TRUE(memory.allocate(mib, 4096));
}

TEST(Window, QuarantinedPieceIsCountedAndNeverHandedOutAgain) {
  window memory = make_window();
  auto lost = memory.allocate(4096, 4096);
  ASSERT_TRUE(lost);
  memory.quarantine(*lost);
  EXPECT_EQ(memory.quarantined_bytes(), 4096U);
  EXPECT_EQ(memory.free_bytes(), mib - 4096);
  while (auto piece = memory.allocate(4096, 4096)) {
    EXPECT_NE(piece->data(), lost->data());
  }
}

TEST(Window, ReleasingTwiceOrWhatIsForeignAborts) {
  window memory = make_window();
  auto piece = memory.allocate(8192, 64);
  ASSERT_TRUE(piece);
  const std::span<std::byte> inner = piece->subspan(4096, 64);
  std::vector<std::byte> foreign(64);
  EXPECT_DEATH(memory.release(foreign), "CHECK failed");
  EXPECT_DEATH(memory.quarantine(foreign), "CHECK failed");
  EXPECT_DEATH(memory.release(piece->subspan(1, 64)), "CHECK failed");  // not where a piece begins
  EXPECT_DEATH(memory.release({}), "CHECK failed");
  memory.release(*piece);
  EXPECT_DEATH(memory.release(*piece), "CHECK failed");
  EXPECT_DEATH(memory.release(inner), "CHECK failed");
}

TEST(Window, AlignmentBeyondAPageAborts) {
  window memory = make_window();
  EXPECT_DEATH((void)memory.allocate(64, 8192), "CHECK failed");
  EXPECT_DEATH((void)memory.allocate(64, 48), "CHECK failed");
}

TEST(Window, ForkedChildDoesNotInheritIt) {
  const window memory = make_window();
  const std::byte* address = memory.memory().address;
  const pid_t child = fork();
  if (child == 0) {
    unsigned char resident = 0;
    // No such mapping in the child: mincore says ENOMEM.
    _exit(mincore(const_cast<std::byte*>(address), 4096, &resident) == -1 ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

TEST(Window, MovingKeepsAddressAndPieces) {
  window first = make_window();
  auto piece = first.allocate(64, 64);
  ASSERT_TRUE(piece);
  window second{std::move(first)};
  EXPECT_TRUE(second.memory().contains(piece->data(), piece->size()));
  (*piece)[0] = std::byte{1};  // still mapped
  first = make_window();
  first = std::move(second);
  first.release(*piece);
  EXPECT_EQ(first.free_bytes(), mib);
}

TEST(Window, ShortageIsAFailureThatNamesTheAmount) {
  auto made = window::create({.bytes = std::size_t{1} << 50U, .huge = true});
  ASSERT_FALSE(made);
  EXPECT_NE(made.error().message().find("1073741824 MiB"), std::string::npos)
      << made.error().message();
}

}  // namespace
}  // namespace runnel
