// Goal: what tasks await is what the device did, nothing waits for ever, and memory a device may
// still reach is never given away. Method: tasks on a simulated core over a scripted queue that
// completes, refuses and forgets on command.

#include "runtime/io/block.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <vector>

#include "mempool/pool.h"
#include "mempool/window.h"
#include "tests/sim/core.h"

namespace runnel::io {
namespace {

using namespace std::chrono_literals;

/// Does what the test says; keeps what it was given.
struct scripted_queue final : block_queue {
  enum class behaviour : std::uint8_t { keep, in_place, refuse };

  behaviour mode = behaviour::keep;
  block_status answer = block_status::success;
  std::uint32_t room = 8;
  std::deque<block_request> kept;
  std::vector<segment> segments;  // of the last request
  std::vector<block_completion> finished;
  std::vector<std::size_t> bursts;  // requests of each call of submit
  int flushes = 0;

  void submit(std::span<block_request> requests) noexcept override {
    bursts.push_back(requests.size());
    for (block_request& each : requests) {
      segments.assign(each.segments, each.segments + each.segment_count);
      if (mode == behaviour::refuse || kept.size() == room) {
        each.state = block_state::refused;
      } else if (mode == behaviour::in_place) {
        each.state = block_state::done;
        each.status = answer;
      } else {
        each.state = block_state::pending;
        kept.push_back(each);
      }
    }
  }
  std::size_t poll(std::span<block_completion> out) noexcept override {
    const std::size_t count = std::min(out.size(), finished.size());
    std::copy_n(finished.begin(), count, out.begin());
    finished.erase(finished.begin(), finished.begin() + static_cast<std::ptrdiff_t>(count));
    return count;
  }
  void flush() noexcept override { ++flushes; }
  [[nodiscard]] std::uint32_t depth() const noexcept override { return room; }

  void finish_first(block_status status = block_status::success) {
    finished.push_back({kept.front().tag, status});
    kept.pop_front();
  }
};

struct DiskTest : testing::Test {
  static constexpr std::uint32_t block_bytes = 512;

  window memory = *window::create({.bytes = 4 * mib, .huge = false});
  std::unique_ptr<buffer_pool> pool =
      *buffer_pool::create(memory, {.buffer_bytes = 4096, .count = 64, .alignment = 4096});
  sim::core core;
  gate tasks{core.loop};
  block_info info;
  scripted_queue* queue = nullptr;
  std::unique_ptr<disk> target;
  std::vector<error> ends;

  void SetUp() override { open({}); }
  void TearDown() override {
    tasks.cancel();
    ASSERT_TRUE(core.run_until([this] { return tasks.size() == 0; }));
    target->detach();
  }
  void open(const disk_options& options, std::uint32_t room = 8) {
    if (target) {
      target->detach();
    }
    auto made = std::make_unique<scripted_queue>();
    made->room = room;
    queue = made.get();
    info.address = "scripted";
    info.block_bytes = block_bytes;
    target = std::make_unique<disk>(core.loop, std::move(made), info, options);
    target->attach();
  }
  void turns(int count) {
    for (int turn = 0; turn < count; ++turn) {
      core.loop.turn();
    }
  }
};

task<> read_one(disk& from, buffer into, lba first, std::vector<error>& ends) {
  auto done = co_await from.read(first, std::move(into));
  ends.push_back(done ? error{} : done.error());
}

task<> write_borrowed(disk& to, std::span<std::byte> bytes, const region& memory, durability wanted,
                      std::vector<error>& ends) {
  const auto done = co_await to.write(lba{7}, bytes, memory, wanted);
  ends.push_back(done ? error{} : done.error());
}

task<> flush_all(disk& which, std::vector<error>& ends) {
  const auto done = co_await which.flush();
  ends.push_back(done ? error{} : done.error());
}

task<> compare_buffer(disk& which, buffer with, std::vector<error>& ends) {
  auto done = co_await which.compare(lba{16}, std::move(with));
  ends.push_back(done ? error{} : done.error());
}

/// Each of the operations that a device may have, one after another.
task<> others(disk& which, std::span<std::byte> bytes, const region& memory,
              std::vector<error>& ends) {
  const auto compared = co_await which.compare(lba{1}, bytes, memory);
  ends.push_back(compared ? error{} : compared.error());
  const auto zeroed = co_await which.write_zeroes(lba{2}, 65536, durability::durable);
  ends.push_back(zeroed ? error{} : zeroed.error());
  const auto given_up = co_await which.deallocate(lba{3}, 7);
  ends.push_back(given_up ? error{} : given_up.error());
  const auto verified = co_await which.verify(lba{4}, 9);
  ends.push_back(verified ? error{} : verified.error());
}

constexpr error success{};

TEST_F(DiskTest, ARequestSaysWhatTheTaskAskedForAndIsPublishedOncePerTurn) {
  tasks.spawn(read_one(*target, pool->get(), lba{16}, ends));
  tasks.spawn(write_borrowed(*target, {memory.memory().address, 1024}, memory.memory(),
                             durability::durable, ends));
  tasks.spawn(flush_all(*target, ends));
  core.loop.turn();
  ASSERT_EQ(queue->kept.size(), 3U);
  EXPECT_EQ(queue->flushes, 1);
  EXPECT_EQ(queue->kept[0].op, block_op::read);
  EXPECT_EQ(queue->kept[0].first, lba{16});
  EXPECT_EQ(queue->kept[0].blocks, 8U);
  EXPECT_FALSE(queue->kept[0].force_unit_access);
  EXPECT_EQ(queue->kept[1].op, block_op::write);
  EXPECT_EQ(queue->kept[1].blocks, 2U);
  EXPECT_TRUE(queue->kept[1].force_unit_access);
  EXPECT_EQ(queue->kept[2].op, block_op::flush);
  EXPECT_EQ(queue->kept[2].blocks, 0U);
  EXPECT_EQ(queue->kept[2].segment_count, 0U);
  turns(3);
  EXPECT_EQ(queue->flushes, 1) << "nothing new to publish";
  queue->finish_first();
  queue->finish_first();
  queue->finish_first();
  turns(1);
  EXPECT_EQ(ends, std::vector(3, success));
  EXPECT_EQ(pool->free_count(), pool->count());
}

TEST_F(DiskTest, OtherOperationsSayWhichBlocksTheyAreFor) {
  struct {
    block_op op;
    std::uint32_t blocks;
    std::uint32_t segments;
    bool durable;
  } const expected[] = {
      {block_op::compare, 2, 1, false},
      {block_op::write_zeroes, 65536, 0, true},
      {block_op::deallocate, 7, 0, false},
      {block_op::verify, 9, 0, false},
  };
  tasks.spawn(others(*target, {memory.memory().address, 1024}, memory.memory(), ends));
  std::uint64_t first = 1;
  for (const auto& wanted : expected) {
    turns(1);
    ASSERT_EQ(queue->kept.size(), 1U);
    const block_request& request = queue->kept[0];
    EXPECT_EQ(request.op, wanted.op);
    EXPECT_EQ(request.first, lba{first++});
    EXPECT_EQ(request.blocks, wanted.blocks);
    EXPECT_EQ(request.segment_count, wanted.segments);
    EXPECT_EQ(request.force_unit_access, wanted.durable);
    queue->finish_first(wanted.op == block_op::deallocate ? block_status::invalid_opcode
                                                          : block_status::success);
    turns(1);
  }
  const error refused{errc::bad_status, static_cast<std::uint32_t>(block_status::invalid_opcode)};
  EXPECT_EQ(ends, (std::vector<error>{success, success, refused, success}));
}

TEST_F(DiskTest, AComparisonThatFailsSaysSoAndLetsTheBufferGoHome) {
  tasks.spawn(compare_buffer(*target, pool->get(), ends));
  turns(1);
  EXPECT_EQ(queue->kept[0].op, block_op::compare);
  EXPECT_EQ(queue->kept[0].blocks, 8U);
  queue->finish_first(block_status::compare_failure);
  turns(1);
  const error differs{errc::bad_status, static_cast<std::uint32_t>(block_status::compare_failure)};
  EXPECT_EQ(ends, std::vector(1, differs));
  EXPECT_EQ(pool->free_count(), pool->count());
}

TEST_F(DiskTest, RequestsToABusyDeviceShareACall) {
  open({}, 64);
  constexpr std::size_t count = 1 + disk::burst_max + 3;
  for (std::uint64_t block = 0; block < count; ++block) {
    tasks.spawn(read_one(*target, pool->get(), lba{block}, ends));
  }
  turns(1);
  EXPECT_EQ(queue->bursts, (std::vector<std::size_t>{1, disk::burst_max, 3}));
  ASSERT_EQ(queue->kept.size(), count);
  for (std::uint64_t block = 0; block < count; ++block) {
    EXPECT_EQ(queue->kept[block].first, lba{block}) << "in the order of the tasks";
  }
  for (std::size_t i = 0; i < count; ++i) {
    queue->finish_first();
  }
  turns(2);
  EXPECT_EQ(ends, std::vector(count, success));
}

TEST_F(DiskTest, ABurstMayBeTakenInPartAndFinishInPart) {
  for (std::uint64_t block = 0; block < 5; ++block) {
    tasks.spawn(read_one(*target, pool->get(), lba{block}, ends));
  }
  queue->room = 3;  // less than it promised: two of the burst of four are refused
  turns(1);
  EXPECT_EQ(queue->kept.size(), 3U);
  EXPECT_EQ(target->in_flight(), 3U);
  queue->room = 8;
  queue->mode = scripted_queue::behaviour::in_place;
  turns(2);
  EXPECT_EQ(ends, std::vector(2, success)) << "the refused ones went on when there was room";
  tasks.spawn(read_one(*target, pool->get(), lba{9}, ends));
  turns(2);
  EXPECT_EQ(ends, std::vector(3, success)) << "done within a burst, though others are in flight";
  for (int i = 0; i < 3; ++i) {
    queue->finish_first();
  }
  turns(1);
  EXPECT_EQ(ends, std::vector(6, success));
  EXPECT_EQ(pool->free_count(), pool->count());
}

task<> read_scattered(disk& from, std::span<const segment> into, std::vector<error>& ends) {
  const auto done = co_await from.read(lba{0}, into);
  ends.push_back(done ? error{} : done.error());
}

TEST_F(DiskTest, ScatteredMemoryGoesDownAsItIs) {
  const region& all = memory.memory();
  const std::array<segment, 2> pieces{{{all.address, 512, &all}, {all.address + 4096, 1024, &all}}};
  tasks.spawn(read_scattered(*target, pieces, ends));
  core.loop.turn();
  ASSERT_EQ(queue->segments.size(), 2U);
  EXPECT_EQ(queue->segments[1].address, all.address + 4096);
  EXPECT_EQ(queue->kept[0].blocks, 3U);
  queue->finish_first();
  turns(1);
  EXPECT_EQ(ends, std::vector{success});
}

task<> write_then_read(disk& which, buffer data, bool& same, std::vector<error>& ends) {
  const std::byte* const address = data.data();
  auto written = co_await which.write(lba{0}, std::move(data));
  if (!written) {
    ends.push_back(written.error());
    co_return;
  }
  same = written->data() == address;
  auto read = co_await which.read(lba{0}, std::move(*written));
  ends.push_back(read ? error{} : read.error());
}

TEST_F(DiskTest, AnOwnedBufferComesBackWithItsResult) {
  queue->mode = scripted_queue::behaviour::in_place;
  bool same = false;
  tasks.spawn(write_then_read(*target, pool->get(), same, ends));
  turns(1);
  EXPECT_TRUE(same);
  EXPECT_EQ(ends, std::vector{success});
  EXPECT_EQ(pool->free_count(), pool->count());
}

TEST_F(DiskTest, DeviceErrorsReachTheTaskWithTheirStatus) {
  for (const block_status status :
       {block_status::unrecovered_read_error, block_status::device_gone}) {
    tasks.spawn(read_one(*target, pool->get(), lba{0}, ends));
    turns(1);
    queue->finish_first(status);
    turns(1);
  }
  queue->mode = scripted_queue::behaviour::in_place;
  queue->answer = block_status::lba_out_of_range;
  tasks.spawn(read_one(*target, pool->get(), lba{0}, ends));
  turns(1);
  EXPECT_EQ(ends,
            (std::vector<error>{
                {errc::bad_status, 0x281}, {errc::device_gone, 0}, {errc::bad_status, 0x080}}));
  EXPECT_EQ(pool->free_count(), pool->count());
}

task<> read_many(disk& from, region memory, std::uint64_t times, std::uint64_t& done) {
  const std::span<std::byte> bytes{memory.address, 512};
  for (; done < times; ++done) {
    const auto read = co_await from.read(lba{done % 64}, bytes, memory);
    if (!read) {
      co_return;
    }
  }
}

TEST_F(DiskTest, AMillionRequestsThatFinishInPlaceKeepTheStackFlatAndLeaveOthersTheirTurn) {
  queue->mode = scripted_queue::behaviour::in_place;
  std::uint64_t done = 0;
  tasks.spawn(read_many(*target, memory.memory(), 1'000'000, done));
  std::uint64_t before = 0;
  while (tasks.size() != 0) {
    core.loop.turn();
    ASSERT_LE(done - before, reactor::awaits_per_turn + 1);
    before = done;
  }
  EXPECT_EQ(done, 1'000'000U);
  EXPECT_EQ(queue->flushes, 0) << "nothing was left to publish";
}

TEST_F(DiskTest, ALoopOfRequestsThatFinishInPlaceCanBeCancelled) {
  queue->mode = scripted_queue::behaviour::in_place;
  std::uint64_t done = 0;
  tasks.spawn(read_many(*target, memory.memory(), ~std::uint64_t{0}, done));
  turns(3);
  tasks.cancel();
  EXPECT_TRUE(core.run_until([this] { return tasks.size() == 0; }, 10));
}

TEST_F(DiskTest, RequestsWithoutRoomWaitInOrderAndGoOnWhenThereIsRoom) {
  for (std::uint64_t index = 0; index < 12; ++index) {
    tasks.spawn(read_one(*target, pool->get(), lba{index}, ends));
  }
  turns(1);
  EXPECT_EQ(queue->kept.size(), 8U);
  for (int round = 0; round < 12; ++round) {
    queue->finish_first();
    turns(1);
  }
  EXPECT_EQ(ends, std::vector(12, success));
  EXPECT_EQ(tasks.size(), 0U);
}

TEST_F(DiskTest, AQueueThatRefusesIsAskedAgainEveryTurnAndNobodyOvertakes) {
  queue->mode = scripted_queue::behaviour::refuse;
  tasks.spawn(read_one(*target, pool->get(), lba{1}, ends));
  turns(3);
  EXPECT_TRUE(queue->kept.empty());
  queue->mode = scripted_queue::behaviour::keep;
  tasks.spawn(read_one(*target, pool->get(), lba{2}, ends));
  turns(2);
  ASSERT_EQ(queue->kept.size(), 2U);
  EXPECT_EQ(queue->kept[0].first, lba{1});
  EXPECT_EQ(queue->kept[1].first, lba{2});
  EXPECT_GE(queue->flushes, 1) << "a request that found room late is published too";
  queue->finish_first();
  queue->finish_first();
  turns(1);
  EXPECT_EQ(ends, std::vector(2, success));
}

TEST_F(DiskTest, ADeadlineEndsTheWaitAndTheBufferStaysUntilTheDeviceIsDone) {
  open({.deadline = 1s});
  tasks.spawn(read_one(*target, pool->get(), lba{0}, ends));
  core.run_for(900ms);
  EXPECT_TRUE(ends.empty());
  core.run_for(500ms);
  ASSERT_EQ(ends.size(), 1U);
  EXPECT_EQ(ends[0].code, errc::timed_out);
  EXPECT_EQ(tasks.size(), 0U) << "the task is gone";
  EXPECT_EQ(target->orphans(), 1U);
  EXPECT_EQ(pool->free_count(), pool->count() - 1) << "but not the memory";
  queue->finish_first();
  turns(1);
  EXPECT_EQ(target->orphans(), 0U);
  EXPECT_EQ(target->in_flight(), 0U);
  EXPECT_EQ(pool->free_count(), pool->count());
}

TEST_F(DiskTest, AnAbandonedSlotIsNotUsedAgainBeforeTheDeviceIsDone) {
  open({.deadline = 1s});
  tasks.spawn(read_one(*target, pool->get(), lba{0}, ends));
  core.run_for(2s);
  const std::uint64_t abandoned = queue->kept.front().tag;
  for (int index = 0; index < 7; ++index) {
    tasks.spawn(read_one(*target, pool->get(), lba{1}, ends));
  }
  turns(1);
  ASSERT_EQ(queue->kept.size(), 8U);
  for (std::size_t index = 1; index < 8; ++index) {
    EXPECT_NE(queue->kept[index].tag, abandoned);
  }
  while (!queue->kept.empty()) {
    queue->finish_first();
  }
  turns(1);
  EXPECT_EQ(ends.size(), 8U);
  EXPECT_EQ(pool->free_count(), pool->count());
}

TEST_F(DiskTest, ADeadlineAlsoEndsTheWaitForRoom) {
  open({.deadline = 1s});
  queue->mode = scripted_queue::behaviour::refuse;
  tasks.spawn(read_one(*target, pool->get(), lba{0}, ends));
  core.run_for(2s);
  ASSERT_EQ(ends.size(), 1U);
  EXPECT_EQ(ends[0].code, errc::timed_out);
  EXPECT_EQ(pool->free_count(), pool->count()) << "the device never had it";
}

TEST_F(DiskTest, CancellingEndsWaitsAtTheDeviceAndForRoomButOnlyOfThatGate) {
  gate others{core.loop};
  std::vector<error> other_ends;
  for (int index = 0; index < 9; ++index) {  // one more than there is room
    tasks.spawn(read_one(*target, pool->get(), lba{0}, ends));
  }
  others.spawn(read_one(*target, pool->get(), lba{9}, other_ends));
  turns(1);
  tasks.cancel();
  turns(2);
  EXPECT_EQ(ends.size(), 9U);
  for (const error& each : ends) {
    EXPECT_EQ(each.code, errc::cancelled);
  }
  EXPECT_EQ(target->orphans(), 8U);
  EXPECT_EQ(others.size(), 1U);
  while (!queue->kept.empty()) {
    queue->finish_first();
  }
  turns(2);
  ASSERT_EQ(queue->kept.size(), 1U) << "the other one has found room";
  queue->finish_first();
  turns(1);
  EXPECT_EQ(other_ends, std::vector{success});
  EXPECT_EQ(pool->free_count(), pool->count());
}

TEST_F(DiskTest, MoreCompletionsThanOneTurnTakesAreTakenByTheNext) {
  auto made = std::make_unique<scripted_queue>();
  made->room = 100;
  scripted_queue& deep = *made;
  disk other{core.loop, std::move(made), info, {}};
  other.attach();
  for (int index = 0; index < 80; ++index) {
    tasks.spawn(write_borrowed(other, {memory.memory().address, 512}, memory.memory(),
                               durability::cached, ends));
  }
  turns(1);
  while (!deep.kept.empty()) {
    deep.finish_first();
  }
  turns(1);
  EXPECT_EQ(ends.size(), disk::completions_per_turn);
  turns(2);
  EXPECT_EQ(ends.size(), 80U);
  other.detach();
}

TEST_F(DiskTest, ADiskThatGoesAwayTakesAbandonedMemoryWithItsQueue) {
  tasks.spawn(read_one(*target, pool->get(), lba{0}, ends));
  turns(1);
  tasks.cancel();
  turns(2);
  EXPECT_EQ(pool->free_count(), pool->count() - 1);
  open({});  // deletes the queue: the device cannot reach the buffer any more
  EXPECT_EQ(pool->free_count(), pool->count());
}

}  // namespace
}  // namespace runnel::io
