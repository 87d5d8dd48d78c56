// Goal: a pool hands out each buffer once and gets it back by itself. Method: small pools in a real
// window; under AddressSanitizer also that free buffers cannot be touched.
#include "mempool/pool.h"

#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <set>
#include <thread>
#include <utility>
#include <vector>

#include "mempool/base/bits.h"
#include "mempool/ring/mpmc_ring.h"

namespace runnel {
namespace {

// NOLINTNEXTLINE(readability-identifier-naming): a fixture's name is its suite's
class Pool : public testing::Test {
 protected:
  std::unique_ptr<buffer_pool> make(const pool_options& options) {
    auto made = buffer_pool::create(memory, options);
    EXPECT_TRUE(made) << made.error().message();
    return std::move(*made);
  }

  window memory = std::move(*window::create({.bytes = mib, .huge = false}));
};

TEST_F(Pool, BuffersAreDistinctAlignedAndInTheWindow) {
  auto pool = make({.buffer_bytes = 1000, .count = 16, .alignment = 512});
  std::vector<buffer> held;
  std::set<std::byte*> seen;
  for (int i = 0; i < 16; ++i) {
    buffer one = pool->get();
    ASSERT_TRUE(one);
    EXPECT_EQ(one.size(), 1000U);
    EXPECT_TRUE(is_aligned(reinterpret_cast<std::uintptr_t>(one.data()), 512));
    EXPECT_TRUE(one.memory().contains(one.data(), one.size()));
    EXPECT_TRUE(seen.insert(one.data()).second);
    std::memset(one.data(), i, one.size());
    held.push_back(std::move(one));
  }
  for (int i = 0; i < 16; ++i) {
    EXPECT_EQ(held[static_cast<std::size_t>(i)].bytes().back(), static_cast<std::byte>(i));
  }
}

TEST_F(Pool, EmptyPoolGivesAnEmptyBufferUntilOneComesHome) {
  auto pool = make({.buffer_bytes = 64, .count = 2, .alignment = 64});
  buffer first = pool->get();
  {
    const buffer second = pool->get();
    EXPECT_EQ(pool->free_count(), 0U);
    EXPECT_FALSE(pool->get());
  }
  EXPECT_EQ(pool->free_count(), 1U);
  EXPECT_TRUE(pool->get());
}

TEST_F(Pool, TheBufferUsedLastIsHandedOutFirst) {
  auto pool = make({.buffer_bytes = 64, .count = 8, .alignment = 64});
  buffer one = pool->get();
  buffer other = pool->get();
  const std::byte* warm = one.data();
  other = {};
  one = {};
  EXPECT_EQ(pool->get().data(), warm);
}

TEST_F(Pool, ABufferThatEndsOnAnotherThreadComesHomeWhenItIsNeeded) {
  auto pool = make({.buffer_bytes = 64, .count = 4, .alignment = 64});
  std::vector<buffer> held;
  for (int i = 0; i < 4; ++i) {
    held.push_back(pool->get());
  }
  std::set<std::byte*> away{held[1].data(), held[3].data()};
  std::thread{[one = std::move(held[1]), other = std::move(held[3])] {}}.join();
  EXPECT_EQ(pool->free_count(), 2U);
  const buffer first = pool->get();
  const buffer second = pool->get();
  EXPECT_EQ(away, (std::set<std::byte*>{first.data(), second.data()}));
  EXPECT_FALSE(pool->get());
}

TEST_F(Pool, TwoThreadsThatPassBuffersOnLoseNone) {
  constexpr int rounds = 50'000;
  auto pool = make({.buffer_bytes = 64, .count = 32, .alignment = 64});
  mpmc_ring<buffer*> handed{64};
  std::thread elsewhere{[&] {
    for (int taken = 0; taken < rounds;) {
      if (const auto one = handed.try_pop()) {
        delete *one;
        ++taken;
      } else {
        std::this_thread::yield();
      }
    }
  }};
  for (int given = 0; given < rounds;) {
    buffer one = pool->get();
    if (!one) {
      std::this_thread::yield();
      continue;
    }
    std::memset(one.data(), given, one.size());
    ASSERT_TRUE(handed.try_push(std::make_unique<buffer>(std::move(one)).release()));
    ++given;
  }
  elsewhere.join();
  EXPECT_EQ(pool->free_count(), 32U);
}

TEST_F(Pool, MovedFromBuffersOwnNothing) {
  auto pool = make({.buffer_bytes = 64, .count = 2, .alignment = 64});
  buffer first = pool->get();
  buffer second{std::move(first)};
  // NOLINTBEGIN(bugprone-use-after-move, clang-analyzer-cplusplus.Move): it is what is tested
  EXPECT_FALSE(first);
  EXPECT_EQ(first.size(), 0U);
  // NOLINTEND(bugprone-use-after-move, clang-analyzer-cplusplus.Move)
  first = pool->get();
  EXPECT_EQ(pool->free_count(), 0U);
  first = std::move(second);  // what `first` held goes home
  EXPECT_EQ(pool->free_count(), 1U);
}

TEST_F(Pool, ItsMemoryReturnsToTheWindow) {
  const std::size_t before = memory.free_bytes();
  make({.buffer_bytes = 4096, .count = 32, .alignment = 4096}).reset();
  EXPECT_EQ(memory.free_bytes(), before);
}

TEST_F(Pool, TooLargeAPoolIsRefusedWithTheBytesItNeeds) {
  auto refused = buffer_pool::create(memory, {.buffer_bytes = 4096, .count = 257});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().what.code, errc::no_memory);
  EXPECT_NE(refused.error().message().find("it needs 1052672 bytes"), std::string::npos)
      << refused.error().message();
  EXPECT_FALSE(buffer_pool::create(memory, {.buffer_bytes = std::size_t{1} << 62U, .count = 16}));
}

TEST_F(Pool, DestroyingAPoolWithABufferOutAborts) {
  auto pool = make({.buffer_bytes = 64, .count = 2, .alignment = 64});
  const buffer out = pool->get();
  EXPECT_DEATH(pool->~buffer_pool(), "CHECK failed");  // in the child of the death test alone
}

#if defined(RUNNEL_ADDRESS_SANITIZER)
TEST_F(Pool, AFreeBufferCannotBeTouchedUnderASanitizer) {
  auto pool = make({.buffer_bytes = 64, .count = 2, .alignment = 64});
  buffer one = pool->get();
  std::byte* dangling = one.data();
  *dangling = std::byte{1};
  one = {};
  EXPECT_DEATH(*dangling = std::byte{2}, "use-after-poison");
}
#endif

}  // namespace
}  // namespace runnel
