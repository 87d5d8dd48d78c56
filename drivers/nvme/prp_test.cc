// Goal: what a command's PRP entries name is exactly the memory of the request, in its order.
// Method: describe lists of segments, read the entries as a device does, and compare the bus
// addresses, byte for byte, with those of the segments; a table of shapes, then random ones.
#include "drivers/nvme/prp.h"

#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <random>
#include <vector>

#include "tests/sim/edge_numbers.h"

namespace runnel::nvme {
namespace {

using sim::page;

// Bus addresses differ from ours, so that one taken for the other is seen. Never dereferenced.
const region memory{.address = reinterpret_cast<std::byte*>(0x10000000),
                    .length = std::size_t{1} << 30U,
                    .iova_offset = 0x7000000000};

segment at(std::uint64_t offset, std::size_t length) {
  return {.address = memory.address + offset, .length = length, .memory = &memory};
}

/// One bus address for each dword of the first `bytes` of `segments`.
std::vector<std::uint64_t> dwords_of(const std::vector<segment>& segments, std::uint64_t bytes) {
  std::vector<std::uint64_t> addresses;
  for (const segment& part : segments) {
    for (std::size_t i = 0; i < part.length && addresses.size() * 4 < bytes; i += 4) {
      addresses.push_back(raw(memory.to_iova(part.address + i)));
    }
  }
  return addresses;
}

class prp : public ::testing::Test {
 protected:
  std::uint32_t describe(const std::vector<segment>& segments, const prp_rules& rules) {
    list_.fill(0xdead);
    pair_ = {};
    return describe_run({.rest = segments}, rules, {.entries = list_, .address = list_address},
                        pair_);
  }

  /// What a device makes of the entries.
  [[nodiscard]] std::vector<std::uint64_t> walk(std::uint64_t bytes) const {
    std::vector<std::uint64_t> addresses;
    const std::uint64_t in_first = page - pair_.first % page;
    const bool is_list = bytes > in_first + page;
    for (std::uint64_t done = 0, i = 0; done < bytes; ++i) {
      const std::uint64_t start = i == 0 ? pair_.first : is_list ? list_[i - 1] : pair_.second;
      EXPECT_TRUE(i == 0 || start % page == 0) << "entry " << i;
      const std::uint64_t end = std::min(bytes, done + (i == 0 ? in_first : page));
      for (std::uint64_t offset = 0; done < end; done += 4, offset += 4) {
        addresses.push_back(start + offset);
      }
    }
    if (is_list) {
      EXPECT_EQ(pair_.second, raw(list_address));
    }
    return addresses;
  }

  static constexpr iova list_address{0xabc000};
  std::array<std::uint64_t, 256> list_{};
  prp_pair pair_;
};

struct shape {
  const char* what;
  std::vector<segment> segments;
  std::uint32_t block_bytes;
  std::uint32_t bytes_max;
  std::uint32_t described;
};

TEST_F(prp, EntriesNameTheSegmentsByteForByte) {
  const std::vector<shape> shapes = {
      {"one block", {at(0, 512)}, 512, 131072, 512},
      {"a page", {at(page, page)}, 512, 131072, page},
      {"a page that starts inside one", {at(516, page)}, 512, 131072, page},
      {"two pages", {at(0, 2 * page)}, 512, 131072, 2 * page},
      {"three pages by list", {at(0, 3 * page)}, 512, 131072, 3 * page},
      {"three pages by list, unaligned", {at(8, 2 * page + 512)}, 512, 131072, 2 * page + 512},
      {"the largest, unaligned", {at(4092, 131072)}, 512, 131072, 131072},
      {"more than the largest", {at(0, 140000)}, 512, 131072, 131072},
      {"scattered pages",
       {at(9 * page, page), at(page, page), at(5 * page, page)},
       512,
       131072,
       3 * page},
      {"short head and tail",
       {at(page - 512, 512), at(4 * page, page), at(2 * page, 512)},
       512,
       131072,
       5120},
      {"pieces that adjoin inside a page", {at(0, 100), at(100, 412)}, 512, 131072, 512},
      {"adjoining across a page", {at(0, 4000), at(4000, 192)}, 4096, 131072, 4096},
      {"empty pieces", {at(64, 0), at(0, 512), at(5, 0), at(512, 512)}, 512, 131072, 1024},
      {"a gap after a block", {at(0, 512), at(8192 + 512, 512)}, 512, 131072, 512},
      {"a gap inside a page", {at(0, 1024), at(1536, 512)}, 512, 131072, 1024},
      {"a gap inside the second block", {at(0, 700), at(8192, 324)}, 512, 131072, 512},
      {"a gap inside the only block", {at(0, 256), at(8192, 256)}, 512, 131072, 0},
      {"rounding down leaves one page of two",
       {at(0, page), at(3 * page, 512), at(7, 9)},
       page,
       131072,
       page},
      {"an odd address", {at(2, 512)}, 512, 131072, 0},
      {"an odd address after a page", {at(0, page), at(2 * page + 2, 512)}, 512, 131072, page},
  };
  for (const shape& given : shapes) {
    SCOPED_TRACE(given.what);
    const prp_rules rules{.block_bytes = given.block_bytes, .bytes_max = given.bytes_max};
    const std::uint32_t bytes = describe(given.segments, rules);
    EXPECT_EQ(bytes, given.described);
    if (bytes != 0) {
      EXPECT_EQ(walk(bytes), dwords_of(given.segments, bytes));
    }
  }
}

TEST_F(prp, RunsOfRandomSegmentsCoverThemWithoutGapOrOverlap) {
  constexpr unsigned seed = 20240611;
  SCOPED_TRACE(seed);
  std::mt19937 random{seed};
  const prp_rules rules{.block_bytes = 512, .bytes_max = 65536};
  for (int round = 0; round < 500; ++round) {
    std::vector<segment> segments;
    for (unsigned i = random() % 8 + 1; i > 0; --i) {
      segments.push_back(at(std::uint64_t{random() % 4096} * 512, (random() % 40 + 1) * 512));
    }
    std::vector<std::uint64_t> seen;
    segment_cursor rest{.rest = segments};
    while (!rest.rest.empty()) {
      const std::uint32_t bytes =
          describe_run(rest, rules, {.entries = list_, .address = list_address}, pair_);
      ASSERT_GT(bytes, 0U) << "whole blocks can always be described, in round " << round;
      ASSERT_LE(bytes, rules.bytes_max);
      const auto part = walk(bytes);
      seen.insert(seen.end(), part.begin(), part.end());
      rest.skip(bytes);
    }
    ASSERT_EQ(seen, dwords_of(segments, ~std::uint64_t{0})) << "round " << round;
  }
}

TEST_F(prp, AListNeverCrossesAPage) {
  for (const std::uint32_t bytes_max : {8192U, 65536U, 131072U, 262144U, 1U << 20U}) {
    const std::size_t bytes = prp_list_bytes({.block_bytes = 512, .bytes_max = bytes_max});
    EXPECT_GE(bytes, bytes_max / page * 8);
    EXPECT_EQ(page % bytes, 0U);
  }
}

}  // namespace
}  // namespace runnel::nvme
