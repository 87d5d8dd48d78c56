// Goal: every entry arrives once, whole, and in the order of its producer, around the wrap of the
// storage, with any number of threads on either side. Method: a model on one thread; two producers
// and two consumers that check each other.
#include "mempool/ring/mpmc_ring.h"

#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <deque>
#include <random>
#include <string>
#include <thread>
#include <vector>

namespace runnel {
namespace {

TEST(MpmcRing, TakesExactlyItsCapacity) {
  mpmc_ring<int> ring{4};
  EXPECT_TRUE(ring.maybe_empty());
  for (int i = 0; i < 4; ++i) {
    EXPECT_TRUE(ring.try_push(i));
  }
  EXPECT_FALSE(ring.try_push(4));
  EXPECT_FALSE(ring.maybe_empty());
  EXPECT_EQ(ring.try_pop(), 0);
  EXPECT_TRUE(ring.try_push(4));  // the slot that became free
  for (int i = 1; i <= 4; ++i) {
    EXPECT_EQ(ring.try_pop(), i);
  }
  EXPECT_FALSE(ring.try_pop());
  EXPECT_TRUE(ring.maybe_empty());
}

TEST(MpmcRing, AgreesWithAModelForManyLaps) {
  constexpr unsigned seed = 11;
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random{seed};
  mpmc_ring<std::uint32_t> ring{8};
  std::deque<std::uint32_t> model;
  for (std::uint32_t step = 0; step < 100'000; ++step) {
    if (random() % 2 == 0) {
      ASSERT_EQ(ring.try_push(step), model.size() < ring.capacity());
      if (model.size() < ring.capacity()) {
        model.push_back(step);
      }
    } else if (model.empty()) {
      ASSERT_FALSE(ring.try_pop());
    } else {
      ASSERT_EQ(ring.try_pop(), model.front());
      model.pop_front();
    }
  }
}

TEST(MpmcRing, MisuseAborts) {
  EXPECT_DEATH(mpmc_ring<int>{3}, "CHECK failed");
  EXPECT_DEATH(mpmc_ring<int>{1}, "CHECK failed");
}

/// Both halves are the same number unless an entry was torn.
struct entry {
  std::uint64_t number;
  std::uint64_t again;
};

TEST(MpmcRing, TwoProducersAndTwoConsumersLoseAndDoubleNothing) {
  constexpr std::uint64_t per_producer = 100'000;
  constexpr std::uint64_t producers = 2;
  mpmc_ring<entry> ring{64};
  std::atomic<std::uint64_t> taken{0};
  std::array<std::vector<std::uint64_t>, 2> seen;
  const auto produce = [&](std::uint64_t which) {
    for (std::uint64_t i = 0; i < per_producer; ++i) {
      const std::uint64_t number = i * producers + which;
      while (!ring.try_push({number, number})) {
        std::this_thread::yield();
      }
    }
  };
  const auto consume = [&](std::vector<std::uint64_t>& mine) {
    while (taken.load() < producers * per_producer) {
      const std::optional<entry> got = ring.try_pop();
      if (!got) {
        std::this_thread::yield();
        continue;
      }
      taken.fetch_add(1);
      mine.push_back(got->number == got->again ? got->number : ~std::uint64_t{0});
    }
  };
  std::vector<std::thread> threads;
  threads.emplace_back(produce, 0);
  threads.emplace_back(produce, 1);
  threads.emplace_back(consume, std::ref(seen[0]));
  threads.emplace_back(consume, std::ref(seen[1]));
  for (std::thread& each : threads) {
    each.join();
  }
  std::vector<int> times(producers * per_producer, 0);
  for (const auto& mine : seen) {
    std::array<std::uint64_t, producers> last{};
    for (const std::uint64_t number : mine) {
      ASSERT_LT(number, times.size()) << "torn";
      ++times[number];
      EXPECT_GE(number, last[number % producers]) << "out of its producer's order";
      last[number % producers] = number;
    }
  }
  for (const int count : times) {
    ASSERT_EQ(count, 1);
  }
}

}  // namespace
}  // namespace runnel
