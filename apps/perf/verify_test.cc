// The oracle behind `perf --verify`: it must accept exactly what the last acknowledged write of a
// slot carried. Method: a disk in a vector, spoiled in every way a disk can be wrong.

#include "apps/perf/verify.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <vector>

namespace runnel::perf {
namespace {

constexpr std::uint32_t block_bytes = 512;
constexpr std::size_t slot_bytes = 4096;
constexpr std::uint64_t seed = 42;

using slot_data = std::array<std::byte, slot_bytes>;

slot_data written(verifier& oracle, std::uint64_t slot) {
  slot_data data{};
  EXPECT_TRUE(oracle.try_claim(slot));
  oracle.prepare_write(slot, data);
  oracle.acknowledge(slot);
  oracle.release(slot);
  return data;
}

TEST(Verifier, AcceptsTheLastAcknowledgedWriteAndNotTheOneBefore) {
  verifier oracle{0, 16, block_bytes, seed};
  const slot_data first = written(oracle, 3);
  EXPECT_TRUE(oracle.matches(3, first));
  const slot_data second = written(oracle, 3);
  EXPECT_TRUE(oracle.matches(3, second));
  EXPECT_FALSE(oracle.matches(3, first)) << "a dropped write delivers the old data";
}

TEST(Verifier, SeesDataOfAnotherSlot) {
  verifier oracle{0, 16, block_bytes, seed};
  const slot_data three = written(oracle, 3);
  const slot_data four = written(oracle, 4);
  EXPECT_FALSE(oracle.matches(3, four));
  EXPECT_FALSE(oracle.matches(4, three));
}

TEST(Verifier, SeesATornWriteInEveryBlock) {
  verifier oracle{0, 16, block_bytes, seed};
  const slot_data before = written(oracle, 5);
  const slot_data after = written(oracle, 5);
  for (std::size_t block = 0; block < slot_bytes; block += block_bytes) {
    slot_data torn = after;
    std::copy_n(&before[block], block_bytes, &torn[block]);
    EXPECT_FALSE(oracle.matches(5, torn)) << "old block at " << block;
  }
}

TEST(Verifier, SeesOneFlippedBitAnywhere) {
  verifier oracle{0, 16, block_bytes, seed};
  const slot_data good = written(oracle, 7);
  for (std::size_t at = 0; at < slot_bytes; at += 61) {
    slot_data bad = good;
    bad[at] ^= std::byte{0x10};
    EXPECT_FALSE(oracle.matches(7, bad)) << "byte " << at;
  }
}

TEST(Verifier, SeesTheDataOfAnotherRun) {
  verifier oracle{0, 16, block_bytes, seed};
  verifier other_run{0, 16, block_bytes, seed + 1};
  static_cast<void>(written(oracle, 1));
  EXPECT_FALSE(oracle.matches(1, written(other_run, 1)));
}

TEST(Verifier, KnowsNothingOfASlotThatWasNeverWritten) {
  const verifier oracle{0, 16, block_bytes, seed};
  EXPECT_TRUE(oracle.matches(9, slot_data{}));
}

TEST(Verifier, AcceptsAnythingAfterAFailedWriteUntilTheNextOne) {
  verifier oracle{0, 16, block_bytes, seed};
  const slot_data before = written(oracle, 2);
  ASSERT_TRUE(oracle.try_claim(2));
  slot_data failed{};
  oracle.prepare_write(2, failed);
  oracle.forget(2);
  oracle.release(2);
  EXPECT_TRUE(oracle.matches(2, before));
  EXPECT_TRUE(oracle.matches(2, failed));
  const slot_data next = written(oracle, 2);
  EXPECT_TRUE(oracle.matches(2, next));
  EXPECT_FALSE(oracle.matches(2, failed)) << "the write in doubt came late, after the next one";
  EXPECT_FALSE(oracle.matches(2, before));
}

TEST(Verifier, AllowsOneIoPerSlot) {
  verifier oracle{0, 16, block_bytes, seed};
  EXPECT_TRUE(oracle.try_claim(0));
  EXPECT_FALSE(oracle.try_claim(0));
  EXPECT_TRUE(oracle.try_claim(1));
  oracle.release(0);
  EXPECT_TRUE(oracle.try_claim(0));
}

TEST(Verifier, OfASecondCoreStampsItsOwnPartOfTheNamespace) {
  verifier first_core{0, 8, block_bytes, seed};
  verifier second_core{8, 8, block_bytes, seed};
  const slot_data data = written(first_core, 0);
  static_cast<void>(written(second_core, 8));
  EXPECT_FALSE(second_core.matches(8, data));
}

}  // namespace
}  // namespace runnel::perf
