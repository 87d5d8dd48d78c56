// Goal: the disks that finish requests in place move exactly the bytes asked for and refuse exactly
// what they must. Method: tables of requests against a model of the disk's bytes.
#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <random>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "drivers/soft/copy.h"
#include "drivers/soft/null.h"
#include "drivers/soft/ram.h"
#include "mempool/base/units.h"

namespace runnel::soft {
namespace {

using bytes = std::vector<std::byte>;

bytes random_bytes(std::size_t count, std::mt19937& random) {
  bytes made(count);
  for (std::byte& one : made) {
    one = static_cast<std::byte>(random());
  }
  return made;
}

std::unique_ptr<block_device> ram(std::uint64_t size, std::uint32_t block_bytes = 512) {
  auto made = open_ram("ram:test", size, block_bytes);
  EXPECT_TRUE(made) << made.error().message();
  return std::move(*made);
}

std::unique_ptr<block_queue> queue_of(block_device& disk) {
  auto made = disk.make_queue(32);
  EXPECT_TRUE(made) << made.error().message();
  return std::move(*made);
}

/// One request over the given pieces; expects it to finish in place.
block_status run(block_queue& queue, block_op op, std::uint64_t first, std::uint32_t blocks,
                 std::span<const segment> pieces) {
  block_request request{.tag = 7,
                        .segments = pieces.data(),
                        .segment_count = static_cast<std::uint32_t>(pieces.size()),
                        .blocks = blocks,
                        .first = lba{first},
                        .op = op};
  queue.submit({&request, 1});
  EXPECT_EQ(request.state, block_state::done);
  EXPECT_EQ(request.tag, 7U);
  return request.status;
}

block_status run(block_queue& queue, block_op op, std::uint64_t first, std::uint32_t blocks,
                 bytes& data) {
  const segment all{.address = data.data(), .length = data.size()};
  return run(queue, op, first, blocks, {&all, 1});
}

/// `data` cut at random places, in order.
std::vector<segment> random_pieces(bytes& data, std::mt19937& random) {
  std::vector<segment> pieces;
  for (std::size_t at = 0; at < data.size();) {
    const std::size_t length = std::min<std::size_t>(data.size() - at, 1 + random() % 700);
    pieces.push_back({.address = data.data() + at, .length = length});
    at += length;
  }
  return pieces;
}

TEST(Copy, EachKernelCopiesEveryLengthFromAndToEveryAlignmentAndNothingElse) {
  constexpr unsigned seed = 11;
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random{seed};
  const bytes source = random_bytes(3 * fetch_ahead_bytes, random);
  using kernel = void (*)(std::byte*, const std::byte*, std::size_t);
  for (const kernel copy : {kernel{copy_cached}, kernel{copy_streaming},
                            kernel{[](std::byte* to, const std::byte* from, std::size_t length) {
                              copy_cold(to, from, length, nullptr);
                            }},
                            kernel{[](std::byte* to, const std::byte* from, std::size_t length) {
                              copy_cold(to, from, length, to);  // any place will do
                            }}}) {
    for (std::size_t i = 0; i <= 1200; ++i) {
      const std::size_t length = i <= 600 ? i : random() % (source.size() - 64);
      const std::size_t from = random() % 64;
      const std::size_t to = random() % 64;
      bytes target(source.size() + 64, std::byte{0xee});
      bytes expected = target;
      std::memcpy(expected.data() + to, source.data() + from, length);
      copy(target.data() + to, source.data() + from, length);
      finish_streaming();
      ASSERT_EQ(target, expected) << length << " bytes from +" << from << " to +" << to;
    }
  }
}

TEST(Ram, ANewDiskIsZero) {
  auto disk = ram(64 * kib);
  auto queue = queue_of(*disk);
  bytes data(64 * kib, std::byte{1});
  EXPECT_EQ(run(*queue, block_op::read, 0, 128, data), block_status::success);
  EXPECT_EQ(data, bytes(64 * kib));
}

TEST(Ram, RandomReadsAndWritesInAnyPiecesAgreeWithAModel) {
  constexpr unsigned seed = 42;
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random{seed};
  for (const std::uint32_t block_bytes : {512U, 4096U}) {
    bytes model(256 * kib);
    auto disk = ram(model.size(), block_bytes);
    auto queue = queue_of(*disk);
    const std::uint64_t block_count = model.size() / block_bytes;
    for (int step = 0; step < 300; ++step) {
      const std::uint64_t first = random() % block_count;
      const auto blocks = static_cast<std::uint32_t>(
          1 + random() % std::min<std::uint64_t>(16, block_count - first));
      const auto place = static_cast<std::ptrdiff_t>(first * block_bytes);
      bytes data = random_bytes(blocks * block_bytes, random);
      const bool write = random() % 2 == 0;
      if (write) {
        std::copy(data.begin(), data.end(), model.begin() + place);
      }
      const auto pieces = random_pieces(data, random);
      ASSERT_EQ(run(*queue, write ? block_op::write : block_op::read, first, blocks, pieces),
                block_status::success);
      ASSERT_TRUE(std::equal(data.begin(), data.end(), model.begin() + place));
    }
  }
}

TEST(Ram, ABurstIsExecutedInOrderEvenAroundRefusals) {
  auto disk = ram(8 * kib, 4096);
  auto queue = queue_of(*disk);
  bytes first(4096, std::byte{1});
  bytes second(4096, std::byte{2});
  bytes seen(4096);
  const auto piece = [](bytes& data) { return segment{data.data(), data.size()}; };
  const std::array pieces{piece(first), piece(second), piece(seen)};
  const auto request = [&](block_op op, std::size_t which, std::uint64_t at) {
    return block_request{
        .segments = &pieces[which], .segment_count = 1, .blocks = 1, .first = lba{at}, .op = op};
  };
  std::array burst{request(block_op::write, 0, 0), request(block_op::write, 0, 2),
                   request(block_op::write, 1, 0), block_request{.op = block_op::flush},
                   request(block_op::read, 2, 0)};
  queue->submit(burst);
  const std::array expected{block_status::success, block_status::lba_out_of_range,
                            block_status::success, block_status::success, block_status::success};
  for (std::size_t i = 0; i < burst.size(); ++i) {
    EXPECT_EQ(burst[i].state, block_state::done);
    EXPECT_EQ(burst[i].status, expected[i]) << i;
  }
  EXPECT_EQ(seen, second);
  std::array<block_completion, 4> none{};
  EXPECT_EQ(queue->poll(none), 0U);
}

TEST(Ram, ZeroingReachesItsBlocksAndNoOther) {
  for (const std::uint32_t block_bytes : {512U, 4096U}) {
    for (const block_op op : {block_op::write_zeroes, block_op::deallocate}) {
      auto disk = ram(16 * block_bytes, block_bytes);
      auto queue = queue_of(*disk);
      bytes data(16 * block_bytes, std::byte{7});
      EXPECT_EQ(run(*queue, block_op::write, 0, 16, data), block_status::success);
      EXPECT_EQ(run(*queue, op, 3, 5, {}), block_status::success);
      EXPECT_EQ(run(*queue, block_op::verify, 0, 16, {}), block_status::success);
      std::fill_n(data.begin() + 3 * block_bytes, 5 * block_bytes, std::byte{0});
      bytes seen(data.size());
      EXPECT_EQ(run(*queue, block_op::read, 0, 16, seen), block_status::success);
      EXPECT_EQ(seen, data);
    }
  }
}

TEST(Ram, CompareSeesOneByteInAnyPieceAndChangesNothing) {
  constexpr unsigned seed = 3;
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random{seed};
  for (const std::uint32_t block_bytes : {512U, 4096U}) {
    auto disk = ram(8 * block_bytes, block_bytes);
    auto queue = queue_of(*disk);
    const bytes model = random_bytes(4 * block_bytes, random);
    bytes data = model;
    EXPECT_EQ(run(*queue, block_op::write, 2, 4, data), block_status::success);
    for (int step = 0; step < 50; ++step) {
      const auto pieces = random_pieces(data, random);
      EXPECT_EQ(run(*queue, block_op::compare, 2, 4, pieces), block_status::success);
      std::byte& one = data[random() % data.size()];
      one ^= std::byte{1};
      EXPECT_EQ(run(*queue, block_op::compare, 2, 4, pieces), block_status::compare_failure);
      one ^= std::byte{1};
    }
    bytes seen(model.size());
    EXPECT_EQ(run(*queue, block_op::read, 2, 4, seen), block_status::success);
    EXPECT_EQ(seen, model);
  }
}

TEST(Ram, QueuesShareTheDisk) {
  auto disk = ram(4096);
  auto one = queue_of(*disk);
  auto other = queue_of(*disk);
  bytes data(512, std::byte{9});
  bytes seen(512);
  EXPECT_EQ(run(*one, block_op::write, 7, 1, data), block_status::success);
  EXPECT_EQ(run(*other, block_op::read, 7, 1, seen), block_status::success);
  EXPECT_EQ(seen, data);
}

TEST(Ram, ForcedUnitAccessAndFlushSucceed) {
  auto disk = ram(4096);
  auto queue = queue_of(*disk);
  bytes data(512);
  const segment piece{.address = data.data(), .length = 512};
  block_request request{.segments = &piece,
                        .segment_count = 1,
                        .blocks = 1,
                        .op = block_op::write,
                        .force_unit_access = true};
  queue->submit({&request, 1});
  EXPECT_EQ(request.status, block_status::success);
  EXPECT_EQ(run(*queue, block_op::flush, 0, 0, {}), block_status::success);
  EXPECT_FALSE(disk->info().volatile_cache);
}

/// Both disks judge requests alike: one table for the two.
// NOLINTNEXTLINE(readability-identifier-naming): a fixture's name is its suite's
class InPlace : public testing::TestWithParam<const char*> {
 protected:
  outcome<std::unique_ptr<block_device>> open(std::uint64_t size, std::uint32_t block_bytes) {
    return std::string{GetParam()} == "ram" ? open_ram("disk:x", size, block_bytes)
                                            : open_null("disk:x", size, block_bytes);
  }
};

TEST_P(InPlace, RequestsThatCannotBeAreRefusedByStatusAndTouchNothing) {
  auto disk = std::move(*open(64 * mib, 512));
  auto queue = queue_of(*disk);
  constexpr std::uint64_t max64 = ~std::uint64_t{0};
  struct {
    std::uint64_t first;
    std::uint32_t blocks;
    std::vector<std::size_t> lengths;
    block_status status;
  } const table[] = {
      {0, 1, {512}, block_status::success},
      {131071, 1, {512}, block_status::success},
      {131071, 1, {4, 500, 8}, block_status::success},
      {131072, 1, {512}, block_status::lba_out_of_range},
      {131071, 2, {1024}, block_status::lba_out_of_range},
      {max64, 1, {512}, block_status::lba_out_of_range},
      {max64 - 1, 4, {2048}, block_status::lba_out_of_range},
      {0, 0, {}, block_status::invalid_field},
      {0, 1, {}, block_status::invalid_field},
      {0, 1, {511}, block_status::invalid_field},
      {0, 1, {512, 1}, block_status::invalid_field},
      {0, 1, {max64, 513}, block_status::invalid_field},     // a sum that would wrap to 512
      {0, 8193, {8193 * 512}, block_status::invalid_field},  // more than one transfer carries
  };
  bytes data(8193 * 512, std::byte{0x55});
  const bytes before = data;
  for (const auto& row : table) {
    std::vector<segment> pieces;
    std::size_t at = 0;
    for (const std::size_t length : row.lengths) {
      pieces.push_back({.address = data.data() + at, .length = length});
      at += length < data.size() ? length : 0;
    }
    for (const block_op op : {block_op::write, block_op::read, block_op::compare}) {
      EXPECT_EQ(run(*queue, op, row.first, row.blocks, pieces), row.status)
          << row.first << " + " << row.blocks;
      EXPECT_TRUE(data == before);  // writes come first, so that a read brings the same bytes back
    }
  }
  EXPECT_EQ(run(*queue, block_op{9}, 0, 1, data), block_status::invalid_opcode);
}

TEST_P(InPlace, OperationsWithoutDataTakeBlocksAndNothingElse) {
  constexpr std::uint64_t block_count = 65537;
  bytes data(4096);
  const segment piece{.address = data.data(), .length = data.size()};
  for (const std::uint32_t block_bytes : {512U, 4096U}) {
    auto disk = std::move(*open(block_count * block_bytes, block_bytes));
    auto queue = queue_of(*disk);
    struct {
      std::uint64_t first;
      std::uint32_t blocks;
      std::size_t segments;
      block_status status;
    } const table[] = {
        {0, 1, 0, block_status::success},
        {1, 65536, 0, block_status::success},
        {block_count - 1, 1, 0, block_status::success},
        {0, 0, 0, block_status::invalid_field},
        {0, 65537, 0, block_status::invalid_field},
        {0, 4096 / block_bytes, 1, block_status::invalid_field},
        {2, 65536, 0, block_status::lba_out_of_range},
        {block_count, 1, 0, block_status::lba_out_of_range},
        {~std::uint64_t{0}, 2, 0, block_status::lba_out_of_range},
    };
    for (const auto& row : table) {
      for (const block_op op : {block_op::write_zeroes, block_op::deallocate, block_op::verify}) {
        EXPECT_TRUE(disk->info().operations.contains(op));
        EXPECT_EQ(run(*queue, op, row.first, row.blocks, {&piece, row.segments}), row.status)
            << row.first << " + " << row.blocks;
      }
    }
  }
}

TEST_P(InPlace, SizesThatMakeNoDiskAreRefusedWithBothNumbers) {
  struct {
    std::uint64_t bytes;
    std::uint32_t block_bytes;
    const char* says;
  } const table[] = {{100, 512, "100 bytes are less than one block of 512"},
                     {1000, 512, "1000 bytes are not a multiple of the block size 512"},
                     {4608, 4096, "4608 bytes are not a multiple of the block size 4096"},
                     {0, 512, "less than one block"},
                     {4096, 0, "power of two"},
                     {4096, 520, "not 520"},
                     {1 << 20, 1 << 17, "not 131072"}};
  for (const auto& row : table) {
    auto refused = open(row.bytes, row.block_bytes);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().what.code, errc::invalid);
    EXPECT_EQ(refused.error().object, "disk:x");
    EXPECT_NE(refused.error().message().find(row.says), std::string::npos)
        << refused.error().message();
  }
}

TEST_P(InPlace, QueueDepthsOutsideTheLimitAreRefusedWithTheLimit) {
  auto disk = std::move(*open(4096, 512));
  for (const std::uint32_t depth : {0U, disk->info().queue_depth_max + 1}) {
    auto refused = disk->make_queue(depth);
    ASSERT_FALSE(refused);
    EXPECT_NE(refused.error().message().find(std::to_string(disk->info().queue_depth_max)),
              std::string::npos);
  }
  EXPECT_EQ(std::move(*disk->make_queue(1))->depth(), 1U);
}

TEST_P(InPlace, AnEmptyBurstIsNothing) {
  auto disk = std::move(*open(4096, 512));
  auto queue = queue_of(*disk);
  queue->submit({});
  queue->flush();
}

INSTANTIATE_TEST_SUITE_P(Soft, InPlace, testing::Values("ram", "null"),
                         [](const auto& test) { return std::string{test.param}; });

TEST(Null, MovesNothing) {
  auto disk = open_null("null:4k", 4096, 4096);
  ASSERT_TRUE(disk);
  auto queue = queue_of(**disk);
  bytes data(4096, std::byte{3});
  EXPECT_EQ(run(*queue, block_op::write, 0, 1, data), block_status::success);
  data.assign(4096, std::byte{4});
  EXPECT_EQ(run(*queue, block_op::read, 0, 1, data), block_status::success);
  EXPECT_EQ(data, bytes(4096, std::byte{4}));
}

TEST(Null, ALargeDiskCostsNoMemory) {
  EXPECT_TRUE(open_null("null:1p", std::uint64_t{1} << 50U, 512));
}

TEST(Ram, ShortageOfMemoryNamesTheDiskAndWhatThereIs) {
  auto refused = open_ram("ram:1p", std::uint64_t{1} << 50U, 512);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().what.code, errc::no_memory);
  EXPECT_EQ(refused.error().object, "ram:1p");
  EXPECT_NE(refused.error().message().find("available"), std::string::npos);
}

}  // namespace
}  // namespace runnel::soft
