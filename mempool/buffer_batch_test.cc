// Goal: a batch owns what it took, and each of its buffers goes home once. Method: small pools in a
// real window, batches that are split, cut short by an empty pool and ended by another thread.
#include "mempool/buffer_batch.h"

#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <set>
#include <thread>
#include <utility>

#include "mempool/base/bits.h"

namespace runnel {
namespace {

// NOLINTNEXTLINE(readability-identifier-naming): a fixture's name is its suite's
class BufferBatch : public testing::Test {
 protected:
  window memory = std::move(*window::create({.bytes = mib, .huge = false}));
  std::unique_ptr<buffer_pool> pool =
      std::move(*buffer_pool::create(memory, {.buffer_bytes = 64, .count = 40, .alignment = 64}));
};

TEST_F(BufferBatch, TakesDistinctBuffersAndGivesThemBackTogether) {
  {
    const buffer_batch batch{*pool, 32};
    EXPECT_EQ(batch.size(), 32U);
    EXPECT_EQ(pool->free_count(), 8U);
    std::set<std::byte*> seen;
    for (std::byte* const data : batch.buffers()) {
      std::memset(data, 1, 64);
      EXPECT_TRUE(pool->memory().contains(data, 64));
      EXPECT_TRUE(seen.insert(data).second);
    }
  }
  EXPECT_EQ(pool->free_count(), 40U);
}

TEST_F(BufferBatch, IsCutShortWhenThePoolRunsOut) {
  const buffer_batch first{*pool, 31};
  const buffer_batch second{*pool, 32};
  const buffer_batch third{*pool, 32};
  EXPECT_EQ(second.size(), 9U);
  EXPECT_EQ(third.size(), 0U);
  EXPECT_FALSE(pool->get());
}

TEST_F(BufferBatch, ASplitBufferOutlivesIt) {
  buffer kept;
  {
    buffer_batch batch{*pool, 2};
    const std::byte* const last = batch.buffers().back();
    kept = batch.split_last();
    EXPECT_EQ(kept.data(), last);
    EXPECT_EQ(kept.size(), 64U);
    EXPECT_EQ(batch.size(), 1U);
  }
  EXPECT_EQ(pool->free_count(), 39U);
}

TEST_F(BufferBatch, WhatAnotherThreadReturnedIsTakenWhenTooFewAreHere) {
  {
    auto batch = std::make_unique<buffer_batch>(*pool, 32);
    std::thread{[gone = std::move(batch)] {}}.join();
  }
  const buffer_batch batch{*pool, 32};
  EXPECT_EQ(batch.size(), 32U);
  EXPECT_EQ(pool->free_count(), 8U);
}

TEST_F(BufferBatch, TheBuffersUsedLastAreHandedOutFirst) {
  std::set<std::byte*> warm;
  {
    const buffer_batch batch{*pool, 4};
    warm.insert(batch.buffers().begin(), batch.buffers().end());
  }
  const buffer_batch again{*pool, 4};
  EXPECT_EQ(warm, (std::set<std::byte*>{again.buffers().begin(), again.buffers().end()}));
}

TEST_F(BufferBatch, MisuseAborts) {
  EXPECT_DEATH((buffer_batch{*pool, 33}), "CHECK failed");
  buffer_batch empty{*pool, 0};
  EXPECT_DEATH((void)empty.split_last(), "CHECK failed");
}

}  // namespace
}  // namespace runnel
