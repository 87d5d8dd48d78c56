// Goal: entries arrive once, whole and in order, whatever the batch sizes, around the wrap of
// storage and of the 32-bit indices, and between threads. Method: tables and a model on one thread;
// two threads that yield to each other and check every entry.
#include "mempool/ring/spsc_ring.h"

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

TEST(SpscRing, TakesExactlyItsCapacity) {
  spsc_ring<int> ring{4};
  auto in = ring.take_producer();
  auto out = ring.take_consumer();
  for (int i = 0; i < 4; ++i) {
    EXPECT_TRUE(in.try_push(i));
  }
  EXPECT_FALSE(in.try_push(4));
  EXPECT_EQ(out.try_pop(), 0);
  EXPECT_TRUE(in.try_push(4));  // the slot that became free
  for (int i = 1; i <= 4; ++i) {
    EXPECT_EQ(out.try_pop(), i);
  }
  EXPECT_FALSE(out.try_pop());
}

TEST(SpscRing, OneSlotIsEnough) {
  spsc_ring<int> ring{1};
  auto in = ring.take_producer();
  auto out = ring.take_consumer();
  for (int i = 0; i < 100; ++i) {
    EXPECT_TRUE(in.try_push(i));
    EXPECT_FALSE(in.try_push(i));
    EXPECT_EQ(out.try_pop(), i);
    EXPECT_FALSE(out.try_pop());
  }
}

TEST(SpscRing, BatchesAreCutAtFullAndAtEmptyAndCrossTheWrap) {
  spsc_ring<int> ring{8};
  auto in = ring.take_producer();
  auto out = ring.take_consumer();
  const std::array<int, 6> values{0, 1, 2, 3, 4, 5};
  std::array<int, 16> got{};
  EXPECT_EQ(in.push(values), 6U);
  EXPECT_EQ(in.push(values), 2U);
  EXPECT_EQ(in.push(values), 0U);
  EXPECT_EQ(out.pop(std::span{got}.first(6)), 6U);
  EXPECT_EQ(in.push(values), 6U);  // fills slots 0..5 after the storage wrapped
  EXPECT_EQ(out.pop(got), 8U);
  EXPECT_EQ((std::vector<int>{got.begin(), got.begin() + 8}),
            (std::vector<int>{0, 1, 0, 1, 2, 3, 4, 5}));
  EXPECT_EQ(out.pop(got), 0U);
}

TEST(SpscRing, InPlaceRunsStopWhereTheStorageWraps) {
  spsc_ring<int> ring{8};
  auto in = ring.take_producer();
  auto out = ring.take_consumer();
  ASSERT_EQ(in.reserve(6).size(), 6U);
  in.commit(6);
  ASSERT_EQ(out.peek(100).size(), 6U);
  out.consume(6);
  auto first = in.reserve(5);  // slots 6 and 7, then the end of the storage
  ASSERT_EQ(first.size(), 2U);
  first[0] = 10;
  first[1] = 11;
  EXPECT_TRUE(out.peek(8).empty());  // reserved is not yet produced
  in.commit(2);
  auto second = in.reserve(3);
  ASSERT_EQ(second.size(), 3U);
  second[0] = 12;
  in.commit(1);  // fewer than reserved
  EXPECT_EQ(out.peek(8).size(), 2U);
  EXPECT_EQ(out.try_pop(), 10);
  EXPECT_EQ(out.try_pop(), 11);
  EXPECT_EQ(out.try_pop(), 12);
  EXPECT_FALSE(out.try_pop());
}

TEST(SpscRing, PeekedEntriesStayUntilConsumed) {
  spsc_ring<int> ring{2};
  auto in = ring.take_producer();
  auto out = ring.take_consumer();
  ASSERT_TRUE(in.try_push(1));
  ASSERT_TRUE(in.try_push(2));
  ASSERT_EQ(out.peek(2).size(), 2U);
  EXPECT_FALSE(in.try_push(3));
  out.consume(1);
  EXPECT_TRUE(in.try_push(3));
  EXPECT_EQ(out.try_pop(), 2);
  EXPECT_EQ(out.try_pop(), 3);
}

TEST(SpscRing, MovingAnEndKeepsItsPlace) {
  spsc_ring<int> ring{4};
  auto in = ring.take_producer();
  ASSERT_TRUE(in.try_push(1));
  auto moved = std::move(in);
  ASSERT_TRUE(moved.try_push(2));
  auto out = ring.take_consumer();
  EXPECT_EQ(out.try_pop(), 1);
  auto moved_out = std::move(out);
  EXPECT_EQ(moved_out.try_pop(), 2);
}

TEST(SpscRing, MisuseAborts) {
  EXPECT_DEATH(spsc_ring<int>{3}, "CHECK failed");
  EXPECT_DEATH(spsc_ring<int>{0}, "CHECK failed");
  spsc_ring<int> ring{4};
  auto in = ring.take_producer();
  auto out = ring.take_consumer();
  EXPECT_DEATH((void)ring.take_producer(), "CHECK failed");
  EXPECT_DEATH((void)ring.take_consumer(), "CHECK failed");
  EXPECT_DEATH(in.commit(5), "CHECK failed");
  EXPECT_DEATH(out.consume(1), "CHECK failed");
}

TEST(SpscRing, RandomBatchesKeepOrderAgainstAModel) {
  constexpr unsigned seed = 7;
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random{seed};
  spsc_ring<std::uint32_t> ring{64};
  auto in = ring.take_producer();
  auto out = ring.take_consumer();
  std::deque<std::uint32_t> model;
  std::uint32_t next = 0;
  std::array<std::uint32_t, 80> batch{};
  for (int step = 0; step < 200'000; ++step) {
    const std::size_t count = random() % batch.size();
    switch (random() % 4) {
      case 0: {
        for (std::size_t i = 0; i < count; ++i) {
          batch[i] = next + static_cast<std::uint32_t>(i);
        }
        const std::size_t pushed = in.push(std::span{batch}.first(count));
        ASSERT_EQ(pushed, std::min(count, 64 - model.size()));
        for (std::size_t i = 0; i < pushed; ++i) {
          model.push_back(next++);
        }
        break;
      }
      case 1: {
        auto slots = in.reserve(count);
        for (auto& slot : slots) {
          slot = next;
          model.push_back(next++);
        }
        in.commit(slots.size());
        break;
      }
      case 2: {
        const std::size_t popped = out.pop(std::span{batch}.first(count));
        ASSERT_EQ(popped, std::min(count, model.size()));
        for (std::size_t i = 0; i < popped; ++i) {
          ASSERT_EQ(batch[i], model.front());
          model.pop_front();
        }
        break;
      }
      default: {
        const auto entries = out.peek(count);
        for (const auto entry : entries) {
          ASSERT_EQ(entry, model.front());
          model.pop_front();
        }
        out.consume(entries.size());
        break;
      }
    }
  }
}

struct message {
  std::uint64_t number;
  std::array<std::uint64_t, 7> copies;
};

/// The producer half of the stress: single entries, batches and in-place runs in turn.
void produce(spsc_ring<message>::producer in, std::uint64_t total) {
  const auto fill = [](message& slot, std::uint64_t number) {
    slot.number = number;
    slot.copies.fill(number);
  };
  for (std::uint64_t sent = 0; sent < total;) {
    const std::size_t wanted = std::min<std::uint64_t>(1 + sent % 37, total - sent);
    auto slots = in.reserve(wanted);
    for (auto& slot : slots) {
      fill(slot, sent++);
    }
    in.commit(slots.size());
    if (slots.empty()) {
      std::this_thread::yield();
    } else if (sent < total) {
      message one{};
      fill(one, sent);
      sent += in.try_push(one) ? 1U : 0U;
    }
  }
}

TEST(SpscRing, TwoThreadsSeeEveryEntryWholeAndInOrder) {
  constexpr std::uint64_t total = 300'000;
  spsc_ring<message> ring{32};
  auto out = ring.take_consumer();
  std::thread producer{[in = ring.take_producer()]() mutable { produce(std::move(in), total); }};
  std::array<message, 19> batch{};
  std::uint64_t torn = 0;
  std::uint64_t misplaced = 0;
  for (std::uint64_t received = 0; received < total;) {
    const std::size_t count = out.pop(batch);
    for (std::size_t i = 0; i < count; ++i, ++received) {
      misplaced += batch[i].number != received ? 1U : 0U;
      for (const std::uint64_t copy : batch[i].copies) {
        torn += copy != batch[i].number ? 1U : 0U;
      }
    }
    if (count == 0) {
      std::this_thread::yield();
    }
  }
  producer.join();
  EXPECT_EQ(misplaced, 0U);
  EXPECT_EQ(torn, 0U);
  EXPECT_FALSE(out.try_pop());
}

}  // namespace
}  // namespace runnel
