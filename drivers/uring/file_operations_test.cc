// Goal: zeroing, comparing and verifying do to a file what they do to a disk. Method: as in
// file_test.cc, every way that the kernel may let us take.
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <string>

#include "drivers/uring/file_rig.h"
#include "mempool/base/units.h"

namespace runnel::uring {
namespace {

// NOLINTNEXTLINE(readability-identifier-naming): a fixture's name is its suite's
class FileOperations : public file_ways {};
INSTANTIATE_TEST_SUITE_P(Ways, FileOperations, all_ways(), way_name);

TEST_P(FileOperations, ZeroingReachesItsBlocksAndNoOther) {
  for (const block_op op : {block_op::write_zeroes, block_op::deallocate}) {
    temporary_file file{256 * kib};
    bytes model(256 * kib, std::byte{7});
    file.write(model);
    auto disk = open_disk(file, options());
    ASSERT_TRUE(disk->info().operations.contains(op));
    auto queue = queue_of(*disk);
    EXPECT_EQ(run(*queue, request_for({}, op, 3, 9)), block_status::success);
    EXPECT_EQ(run(*queue, {.op = block_op::flush}), block_status::success);
    std::fill_n(model.begin() + 3 * block(), 9 * block(), std::byte{0});
    EXPECT_EQ(file.read(256 * kib), model);
    const std::uint64_t end = disk->info().block_count;
    EXPECT_EQ(run(*queue, request_for({}, op, end - 1, 2)), block_status::lba_out_of_range);
    EXPECT_EQ(run(*queue, request_for({}, op, 0, 0)), block_status::invalid_field);
  }
}

TEST_P(FileOperations, CompareSeesOneByteInAnyPiece) {
  constexpr unsigned seed = 4;
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random{seed};
  temporary_file file{64 * kib};
  const bytes content = random_bytes(64 * kib, random);
  file.write(content);
  auto disk = open_disk(file, options());
  auto queue = queue_of(*disk);
  bytes data(std::size_t{4} * block());
  for (int step = 0; step < 20; ++step) {
    const auto pieces = random_pieces(data, random);
    const auto compare = request_for(pieces, block_op::compare, 5, 4);
    const auto read = request_for(pieces, block_op::read, 5, 4);
    EXPECT_EQ(run(*queue, read), block_status::success);
    EXPECT_EQ(run(*queue, compare), block_status::success);
    data[random() % data.size()] ^= std::byte{1};
    EXPECT_EQ(run(*queue, compare), block_status::compare_failure);
  }
  EXPECT_EQ(file.read(64 * kib), content);
}

TEST_P(FileOperations, VerifyReadsMoreThanOneTransferAndSeesWhatIsMissing) {
  temporary_file file{5 * mib};
  auto disk = open_disk(file, options());
  auto queue = queue_of(*disk);
  const auto blocks = static_cast<std::uint32_t>(disk->info().block_count);
  EXPECT_EQ(run(*queue, request_for({}, block_op::verify, 0, blocks)), block_status::success);
  file.resize(4 * mib);
  EXPECT_EQ(run(*queue, request_for({}, block_op::verify, 0, blocks)),
            block_status::unrecovered_read_error);
  EXPECT_EQ(run(*queue, request_for({}, block_op::verify, 0, blocks - blocks / 5)),
            block_status::success);
}

}  // namespace
}  // namespace runnel::uring
