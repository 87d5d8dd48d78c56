// Goal: what simulations judge by is right itself: the checker allows what a disk may do and
// nothing else, and the faulty disk does all of that. Method: tables of short histories, then the
// disk and the checker against each other, also with the disk's bugs.
#include "tests/sim/faulty_disk.h"

#include <gtest/gtest.h>

#include <array>
#include <memory>
#include <span>
#include <vector>

#include "tests/sim/block_checker.h"
#include "tests/sim/seeds.h"

namespace runnel::sim {
namespace {

constexpr std::uint32_t block_bytes = 1024;
constexpr std::uint64_t blocks = 4;

std::vector<std::byte> content_of(const block_checker& by, const block_checker::write& one) {
  std::vector<std::byte> data(std::size_t{one.blocks} * block_bytes);
  by.fill(one, data);
  return data;
}

struct checked_block : testing::Test {
  block_checker checker{{.block_bytes = block_bytes, .cell_bytes = 512, .block_count = blocks}};

  block_checker::write wrote(bool success = true, bool forced = false) {
    const auto one = checker.begin_write(0, 1);
    checker.end_write(one, success, forced);
    return one;
  }
  bool may_be_read(const std::vector<std::byte>& data) {
    return judged([&] { checker.end_read(checker.begin_read(0), data); });
  }
  bool may_be_left(std::vector<std::byte> data) {
    data.resize(blocks * block_bytes);
    return judged([&] { checker.recover(data); });
  }
  template <class Act>
  bool judged(Act&& act) {
    const std::uint64_t before = checker.wrong();
    act();
    return checker.wrong() == before;
  }
};

using BlockChecker = checked_block;

TEST_F(BlockChecker, AReadSeesTheLastCompletedWriteAndThoseUnderWay) {
  const std::vector<std::byte> none(block_bytes);
  EXPECT_TRUE(may_be_read(none));
  const auto first = wrote();
  EXPECT_TRUE(may_be_read(content_of(checker, first)));
  EXPECT_FALSE(may_be_read(none)) << "it was replaced";
  const auto second = checker.begin_write(0, 1);
  EXPECT_TRUE(may_be_read(content_of(checker, first)));
  EXPECT_TRUE(may_be_read(content_of(checker, second)));
  const auto slow = checker.begin_read(0);
  checker.end_write(second, true);
  EXPECT_FALSE(may_be_read(content_of(checker, first)));
  EXPECT_TRUE(judged([&] { checker.end_read(slow, content_of(checker, first)); }))
      << "it began before";
}

TEST_F(BlockChecker, AFailedWriteMayHaveHappenedUntilAnotherSucceeds) {
  const auto first = wrote();
  const auto failed = wrote(false);
  EXPECT_TRUE(may_be_read(content_of(checker, first)));
  EXPECT_TRUE(may_be_read(content_of(checker, failed)));
  const auto last = wrote();
  EXPECT_FALSE(may_be_read(content_of(checker, failed)));
  EXPECT_TRUE(may_be_read(content_of(checker, last)));
  const auto withdrawn = checker.begin_write(0, 1);
  checker.withdraw(withdrawn);
  EXPECT_FALSE(may_be_read(content_of(checker, withdrawn)));
}

TEST_F(BlockChecker, WritesThatOverlapInTimeLeaveEither) {
  const auto one = checker.begin_write(0, 1);
  const auto other = checker.begin_write(0, 1);
  checker.end_write(other, true);
  checker.end_write(one, true);
  EXPECT_TRUE(may_be_read(content_of(checker, one)));
  EXPECT_TRUE(may_be_read(content_of(checker, other)));
}

TEST_F(BlockChecker, ForeignMisplacedAndTornContentShows) {
  const auto wide = checker.begin_write(0, 2);
  checker.end_write(wide, true);
  const std::vector<std::byte> both = content_of(checker, wide);
  const std::vector<std::byte> right{both.begin(), both.begin() + block_bytes};
  EXPECT_TRUE(may_be_read(right));
  EXPECT_FALSE(may_be_read({both.begin() + block_bytes, both.end()})) << "of its neighbour";
  std::vector<std::byte> torn = right;
  torn.back() ^= std::byte{1};
  EXPECT_FALSE(may_be_read(torn));
}

TEST_F(BlockChecker, ACrashLeavesAnythingFromTheLastDurableValueOn) {
  struct {
    const char* what;
    bool forced, flushed;
    bool old_may_be_left;
  } const table[] = {{"volatile", false, false, true},
                     {"forced", true, false, false},
                     {"flushed", false, true, false}};
  for (const auto& row : table) {
    SCOPED_TRACE(row.what);
    checker = block_checker{{block_bytes, 512, blocks}};
    const auto old = wrote(true, true);
    const auto one = wrote(true, row.forced);
    if (row.flushed) {
      checker.end_flush(checker.begin_flush());
    }
    const auto unflushed = wrote();
    block_checker as_it_was = checker;
    EXPECT_TRUE(may_be_left(content_of(checker, one)));
    checker = as_it_was;
    EXPECT_TRUE(may_be_left(content_of(checker, unflushed)));
    EXPECT_FALSE(may_be_read(content_of(checker, one))) << "what was left stays";
    checker = as_it_was;
    EXPECT_EQ(may_be_left(content_of(checker, old)), row.old_may_be_left);
  }
}

TEST_F(BlockChecker, AFlushCoversOnlyWhatHadCompletedBeforeIt) {
  const auto first = wrote(true, true);
  const std::uint64_t flush = checker.begin_flush();
  const auto second = wrote();
  checker.end_flush(flush);
  EXPECT_TRUE(may_be_left(content_of(checker, first)));
  EXPECT_FALSE(may_be_read(content_of(checker, second)));
}

/// A user of a disk for some requests, then a crash.
std::uint64_t losses_of(const faulty_disk_options& options) {
  perf::random_stream random{options.seed};
  faulty_disk disk{options};
  auto queue = std::move(*disk.make_queue(8));
  block_checker checker{{options.block_bytes, options.sector_bytes, options.block_count}};
  disk.behave();
  std::vector<std::byte> data(options.block_bytes);
  for (int i = 0; i < 40; ++i) {
    const std::uint64_t first = random.below(options.block_count);
    const segment whole{.address = data.data(), .length = data.size()};
    block_request request{.segments = &whole,
                          .segment_count = 1,
                          .blocks = 1,
                          .first = lba{first},
                          .op = block_op::write,
                          .force_unit_access = random.below(4) == 0};
    if (random.below(4) == 0) {
      request = {.op = block_op::flush};
      const std::uint64_t began = checker.begin_flush();
      queue->submit({&request, 1});
      checker.end_flush(began);
    } else {
      const auto one = checker.begin_write(first, 1);
      checker.fill(one, data);
      queue->submit({&request, 1});
      checker.end_write(one, request.status == block_status::success, request.force_unit_access);
    }
  }
  checker.recover(disk.crash());
  return checker.wrong();
}

TEST(FaultyDisk, LosesOnlyWhatWasNotDurableUnlessItIsBuiltWrong) {
  std::uint64_t without_flush = 0;
  std::uint64_t without_force = 0;
  for_each_seed(200, [&](std::uint64_t seed) {
    faulty_disk_options options{.block_bytes = 4096, .block_count = 8, .seed = seed};
    EXPECT_EQ(losses_of(options), 0U);
    options.flush_does_nothing = true;
    without_flush += losses_of(options) != 0 ? 1U : 0U;
    options.flush_does_nothing = false;
    options.force_does_nothing = true;
    without_force += losses_of(options) != 0 ? 1U : 0U;
  });
  EXPECT_GT(without_flush, 0U);
  EXPECT_GT(without_force, 0U);
}

TEST(FaultyDisk, ACrashKeepsDropsAndTearsWrites) {
  faulty_disk disk{{.block_bytes = 4096, .block_count = 64, .late = 0}};
  auto queue = std::move(*disk.make_queue(8));
  std::vector<std::byte> data(64 * 4096, std::byte{1});
  const segment whole{.address = data.data(), .length = data.size()};
  block_request request{
      .segments = &whole, .segment_count = 1, .blocks = 64, .op = block_op::write};
  queue->submit({&request, 1});
  ASSERT_EQ(request.status, block_status::success);
  for (int i = 0; i < 4; ++i) {
    const std::vector<std::byte> left = disk.crash();
    EXPECT_NE(left, data);
    EXPECT_NE(left, std::vector<std::byte>(data.size()));
    EXPECT_EQ(disk.block(7)[0], std::byte{1}) << "the disk itself goes on";
  }
  EXPECT_GT(disk.lost.torn, 100U);
}

}  // namespace
}  // namespace runnel::sim
