// Goal: a request that the kernel does in parts loses nothing, and memory that O_DIRECT refuses
// takes the detour. Method: the kernel's answers are made up, so every cut and errno can be had.
#include "drivers/uring/transfer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <vector>

namespace runnel::uring {
namespace {

constexpr std::uint32_t block = 512;

opened_file made_up_file(bool direct) {
  opened_file file;
  file.geometry = {
      .block_bytes = block, .transfer_bytes_max = transfer_bytes_max, .block_count = 1 << 20};
  file.direct = direct;
  file.memory_alignment = direct ? 512 : 1;
  file.length_alignment = direct ? 512 : 1;
  return file;
}

struct alignas(4096) arena {
  std::array<std::byte, 64 * 1024> bytes{};
  segment piece(std::size_t offset, std::size_t length) {
    return {.address = bytes.data() + offset, .length = length};
  }
};

block_request request_for(std::span<const segment> pieces, block_op op, std::uint64_t first = 3) {
  std::size_t sum = 0;
  for (const segment& piece : pieces) {
    sum += piece.length;
  }
  return {.tag = 77,
          .segments = pieces.data(),
          .segment_count = static_cast<std::uint32_t>(pieces.size()),
          .blocks = static_cast<std::uint32_t>(sum / block),
          .first = lba{first},
          .op = op};
}

TEST(Transfer, BeginsWithTheWholeRequestAndMergesNeighbours) {
  const opened_file file = made_up_file(false);
  transfer_table table{file, 2};
  arena memory;
  const std::array pieces{memory.piece(0, 100), memory.piece(100, 412), memory.piece(512, 0),
                          memory.piece(4096, 512)};
  transfer* one = table.begin(request_for(pieces, block_op::read));
  ASSERT_NE(one, nullptr);
  EXPECT_EQ(one->tag, 77U);
  EXPECT_EQ(one->position, 3 * block);
  EXPECT_EQ(one->bytes_left, 2 * block);
  ASSERT_EQ(one->memory().size(), 2U);
  EXPECT_EQ(one->memory()[0].iov_base, memory.bytes.data());
  EXPECT_EQ(one->memory()[0].iov_len, 512U);
  EXPECT_EQ(one->memory()[1].iov_base, memory.bytes.data() + 4096);
}

TEST(Transfer, PartialAnswersGoOnAtTheLastWholeBlock) {
  const opened_file file = made_up_file(false);
  transfer_table table{file, 1};
  arena memory;
  const std::array pieces{memory.piece(0, 700), memory.piece(8192, 1860)};  // 5 blocks
  transfer* one = table.begin(request_for(pieces, block_op::write));
  ASSERT_NE(one, nullptr);
  EXPECT_FALSE(one->advance(1100, block));  // two blocks and a bit
  EXPECT_EQ(one->position, 5 * block);
  EXPECT_EQ(one->bytes_left, 3 * block);
  ASSERT_EQ(one->memory().size(), 1U);
  EXPECT_EQ(one->memory()[0].iov_base, memory.bytes.data() + 8192 + (1024 - 700));
  EXPECT_EQ(one->memory()[0].iov_len, 3 * block);
  EXPECT_EQ(one->advance(3 * block, block), block_status::success);
}

TEST(Transfer, NoProgressIsAnErrorNotALoop) {
  const opened_file file = made_up_file(false);
  transfer_table table{file, 1};
  arena memory;
  const std::array pieces{memory.piece(0, 1024)};
  for (const std::int64_t answer : {0, 511}) {
    transfer* read = table.begin(request_for(pieces, block_op::read));
    EXPECT_EQ(read->advance(answer, block), block_status::unrecovered_read_error);
    EXPECT_EQ(table.end(*read, block_status::unrecovered_read_error),
              block_status::unrecovered_read_error);
    transfer* write = table.begin(request_for(pieces, block_op::write));
    EXPECT_EQ(write->advance(answer, block), block_status::capacity_exceeded);
    EXPECT_EQ(table.end(*write, block_status::capacity_exceeded), block_status::capacity_exceeded);
  }
}

TEST(Transfer, InterruptionsAreRetriedABoundedNumberOfTimes) {
  const opened_file file = made_up_file(false);
  transfer_table table{file, 1};
  arena memory;
  const std::array pieces{memory.piece(0, 1024)};
  transfer* one = table.begin(request_for(pieces, block_op::read));
  EXPECT_FALSE(one->advance(-EINTR, block));
  EXPECT_FALSE(one->advance(-EAGAIN, block));
  EXPECT_FALSE(one->advance(block, block));  // progress: the count begins anew
  int attempts = 1;
  while (!one->advance(-EINTR, block)) {
    ASSERT_LT(++attempts, 100);
  }
  EXPECT_EQ(attempts, 16);
}

TEST(Transfer, ErrnosBecomeTheStatusAnInitiatorUnderstands) {
  struct {
    int errno_value;
    block_status read;
    block_status write;
  } const table[] = {
      {EIO, block_status::unrecovered_read_error, block_status::write_fault},
      {ENODATA, block_status::unrecovered_read_error, block_status::write_fault},
      {ENOSPC, block_status::capacity_exceeded, block_status::capacity_exceeded},
      {EDQUOT, block_status::capacity_exceeded, block_status::capacity_exceeded},
      {EROFS, block_status::write_protected, block_status::write_protected},
      {ENODEV, block_status::device_gone, block_status::device_gone},
      {EFAULT, block_status::data_transfer_error, block_status::data_transfer_error},
      {ECANCELED, block_status::aborted, block_status::aborted},
      {EINVAL, block_status::internal_error, block_status::internal_error},
  };
  const opened_file file = made_up_file(false);
  transfer_table transfers{file, 2};
  arena memory;
  const std::array pieces{memory.piece(0, 512)};
  for (const auto& row : table) {
    transfer* read = transfers.begin(request_for(pieces, block_op::read));
    transfer* write = transfers.begin(request_for(pieces, block_op::write));
    EXPECT_EQ(read->advance(-row.errno_value, block), row.read) << row.errno_value;
    EXPECT_EQ(write->advance(-row.errno_value, block), row.write) << row.errno_value;
    EXPECT_EQ(transfers.end(*read, row.read), row.read);
    EXPECT_EQ(transfers.end(*write, row.write), row.write);
  }
}

TEST(Transfer, AlignedMemoryGoesStraightAndUnalignedMemoryDetours) {
  const opened_file file = made_up_file(true);
  transfer_table table{file, 8};
  arena memory;
  struct {
    std::vector<segment> pieces;
    bool detours;
  } const rows[] = {{{memory.piece(512, 1024)}, false},
                    {{memory.piece(512, 512), memory.piece(4096, 512)}, false},
                    {{memory.piece(512, 100), memory.piece(612, 412)}, false},  // merge into one
                    {{memory.piece(4, 512)}, true},
                    {{memory.piece(512, 100), memory.piece(1024, 412)}, true}};
  for (const auto& row : rows) {
    transfer* one = table.begin(request_for(row.pieces, block_op::read));
    ASSERT_NE(one, nullptr);
    EXPECT_EQ(one->bounce != nullptr, row.detours);
    const auto first = reinterpret_cast<std::uintptr_t>(one->memory()[0].iov_base);
    EXPECT_EQ(first % 512, 0U);
    const std::uint64_t before = table.bytes_copied();
    EXPECT_EQ(table.end(*one, block_status::success), block_status::success);
    EXPECT_EQ(table.bytes_copied() != before, row.detours);
  }
}

TEST(Transfer, DetouredBytesArriveBothWaysEvenInParts) {
  const opened_file file = made_up_file(true);
  transfer_table table{file, 1};
  arena memory;
  for (std::size_t i = 0; i < memory.bytes.size(); ++i) {
    memory.bytes[i] = static_cast<std::byte>(i * 7);
  }
  const std::array pieces{memory.piece(4, 1000), memory.piece(5001, 536)};  // 3 blocks
  transfer* write = table.begin(request_for(pieces, block_op::write));
  ASSERT_NE(write, nullptr);
  ASSERT_EQ(write->memory().size(), 1U);
  const auto* gathered = static_cast<const std::byte*>(write->memory()[0].iov_base);
  const std::vector<std::byte> disk(gathered, gathered + 1536);
  EXPECT_TRUE(std::equal(disk.begin(), disk.begin() + 1000, memory.bytes.begin() + 4));
  EXPECT_TRUE(std::equal(disk.begin() + 1000, disk.end(), memory.bytes.begin() + 5001));
  EXPECT_EQ(table.end(*write, block_status::success), block_status::success);

  arena target;
  const std::array places{target.piece(4, 1000), target.piece(5001, 536)};
  transfer* read = table.begin(request_for(places, block_op::read));
  ASSERT_NE(read, nullptr);
  std::copy_n(disk.data(), 512, static_cast<std::byte*>(read->memory()[0].iov_base));
  EXPECT_FALSE(read->advance(512, block));
  EXPECT_EQ(read->memory()[0].iov_len, 1024U);
  std::copy_n(disk.data() + 512, 1024, static_cast<std::byte*>(read->memory()[0].iov_base));
  EXPECT_EQ(read->advance(1024, block), block_status::success);
  EXPECT_EQ(table.end(*read, block_status::success), block_status::success);
  EXPECT_TRUE(std::equal(disk.begin(), disk.begin() + 1000, target.bytes.begin() + 4));
  EXPECT_TRUE(std::equal(disk.begin() + 1000, disk.end(), target.bytes.begin() + 5001));
  EXPECT_EQ(target.bytes[3], std::byte{0});
  EXPECT_EQ(target.bytes[1004], std::byte{0});
  EXPECT_EQ(table.bytes_copied(), 2U * 1536U);
}

TEST(Transfer, AFailedDetourLeavesTheTargetAlone) {
  const opened_file file = made_up_file(true);
  transfer_table table{file, 1};
  arena target;
  const std::array places{target.piece(4, 512)};
  transfer* read = table.begin(request_for(places, block_op::read));
  static_cast<std::byte*>(read->memory()[0].iov_base)[0] = std::byte{0xff};
  EXPECT_EQ(table.end(*read, block_status::unrecovered_read_error),
            block_status::unrecovered_read_error);
  EXPECT_EQ(target.bytes[4], std::byte{0});
}

TEST(Transfer, PlacesAndDetoursRunOutAndComeBack) {
  const opened_file file = made_up_file(true);
  transfer_table table{file, 6};
  arena memory;
  const std::array crooked{memory.piece(4, 512)};
  const std::array straight{memory.piece(512, 512)};
  std::vector<transfer*> taken;
  while (transfer* one = table.begin(request_for(crooked, block_op::read))) {
    taken.push_back(one);
    ASSERT_LE(taken.size(), 6U);
  }
  EXPECT_EQ(taken.size(), 4U);  // detours are fewer than places
  while (transfer* one = table.begin(request_for(straight, block_op::read))) {
    taken.push_back(one);
    ASSERT_LE(taken.size(), 6U);
  }
  EXPECT_EQ(table.in_flight(), 6U);
  for (transfer* one : taken) {
    EXPECT_EQ(table.end(*one, block_status::success), block_status::success);
  }
  EXPECT_EQ(table.in_flight(), 0U);
  EXPECT_NE(table.begin(request_for(crooked, block_op::read)), nullptr);
}

TEST(Transfer, BounceMemoryThatIsLeftToTheKernelOutlivesTheTable) {
  const opened_file file = made_up_file(true);
  arena memory;
  const std::array pieces{memory.piece(4, 512)};
  std::byte* left = nullptr;
  {
    transfer_table table{file, 1};
    left = table.begin(request_for(pieces, block_op::read))->bounce;
    table.leave_bounce_memory();
  }
  ASSERT_NE(left, nullptr);
  std::fill_n(left, transfer_bytes_max, std::byte{1});  // as a late disk does
  free_deleter{}(left);
}

}  // namespace
}  // namespace runnel::uring
