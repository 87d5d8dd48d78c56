// Goal: every request that a queue takes ends once, with the right status and the right bytes,
// whatever the device writes into its completion queue.
// Method: one queue pair against the simulated device; the test decides when the device runs.
#include "drivers/nvme/queue_pair.h"

#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <random>
#include <set>
#include <vector>

#include "tests/sim/nvme_queue_pair_rig.h"

namespace runnel::nvme {
namespace {

void fill(std::span<std::byte> bytes, unsigned seed) {
  std::mt19937 random{seed};
  for (std::size_t i = 0; i + 4 <= bytes.size(); i += 4) {
    const auto word = static_cast<std::uint32_t>(random());
    std::memcpy(&bytes[i], &word, sizeof word);
  }
}

TEST(queue_pair, WrittenBytesAreReadBackInAnyShape) {
  constexpr unsigned seed = 7;
  SCOPED_TRACE(seed);
  struct shape {
    const char* what;
    std::vector<std::pair<std::size_t, std::size_t>> pieces;  // offset, bytes
    std::size_t commands;
  };
  const shape shapes[] = {
      {"a page", {{0, 4096}}, 1},
      {"a page that starts inside one", {{1028, 4096}}, 1},
      {"two whole pages and a bit", {{4000 + 96 + 512, 8192}}, 1},
      {"a list", {{0, 65536}}, 1},
      {"an unaligned list", {{4092, 131072}}, 1},
      {"a list from scattered pages", {{40960, 4096}, {4096, 8192}, {81920, 4096}}, 1},
      {"more than one command takes", {{512, 1U << 20U}}, 8},
      {"pieces that no command takes together", {{0, 4096}, {8192 + 512, 4096}, {200, 8192}}, 3},
  };
  for (const std::uint32_t block_shift : {9U, 12U}) {
    queue_pair_rig on{{.depth = 16, .completion_entries = 17, .block_shift = block_shift}};
    fill(on.data.first(2 * mib), seed);
    for (const shape& given : shapes) {
      SCOPED_TRACE(testing::Message() << given.what << ", blocks of 2^" << block_shift);
      std::vector<segment> from;
      std::vector<segment> to;
      std::size_t bytes = 0;
      for (const auto& [offset, length] : given.pieces) {
        from.push_back(on.piece(offset, length));
        to.push_back(on.piece(2 * mib + offset, length));
        bytes += length;
      }
      std::ranges::fill(on.data.subspan(2 * mib), std::byte{0});
      const auto blocks = static_cast<std::uint32_t>(bytes >> block_shift);
      on.device.seen.clear();

      EXPECT_EQ(on.submit(block_op::write, 3, blocks, from, 10).state, block_state::pending);
      on.device.run();
      auto done = on.poll();
      ASSERT_EQ(done.size(), 1U);
      EXPECT_EQ(done[0].status, block_status::success);
      EXPECT_EQ(on.device.seen.size(), given.commands);

      EXPECT_EQ(on.submit(block_op::read, 3, blocks, to, 11).state, block_state::pending);
      on.device.run();
      done = on.poll();
      ASSERT_EQ(done.size(), 1U);
      EXPECT_EQ(done[0].tag, 11U);
      EXPECT_EQ(done[0].status, block_status::success);
      for (std::size_t i = 0; i < from.size(); ++i) {
        EXPECT_EQ(std::memcmp(from[i].address, to[i].address, from[i].length), 0) << i;
      }
    }
  }
}

TEST(queue_pair, CommandsSayWhatTheRequestSays) {
  queue_pair_rig on;
  block_request request{.tag = 1, .op = block_op::flush};
  on.queue->submit({&request, 1});
  const segment data = on.piece(0, 1024);
  block_request durable{.tag = 2,
                        .segments = &data,
                        .segment_count = 1,
                        .blocks = 2,
                        .first = lba{0x1'0000'0005},
                        .op = block_op::write,
                        .force_unit_access = true};
  on.queue->submit({&durable, 1});
  durable.op = block_op::read;  // means nothing to a read
  on.queue->submit({&durable, 1});
  on.queue->flush();
  on.device.run();
  ASSERT_EQ(on.device.seen.size(), 3U);
  EXPECT_EQ(on.device.seen[0].opcode, 0U);
  EXPECT_EQ(on.device.seen[0].nsid, 1U);
  EXPECT_EQ(on.device.seen[0].prp1, 0U);
  EXPECT_EQ(on.device.seen[1].opcode, 1U);
  EXPECT_EQ(on.device.seen[1].cdw10, 5U);
  EXPECT_EQ(on.device.seen[1].cdw11, 1U);
  EXPECT_EQ(on.device.seen[1].cdw12, 1U | io_force_unit_access);
  EXPECT_EQ(on.device.seen[2].opcode, 2U);
  EXPECT_EQ(on.device.seen[2].cdw12, 1U);
  const auto done = on.poll();
  ASSERT_EQ(done.size(), 3U);
  EXPECT_EQ(done[0].status, block_status::success);
  EXPECT_EQ(done[1].status, block_status::lba_out_of_range);  // the device's own words
}

TEST(queue_pair, AFullQueueRefusesAndTakesAgainAfterAPoll) {
  queue_pair_rig on{{.depth = 4, .completion_entries = 5}};
  std::array<block_request, 7> requests{};
  const segment data = on.piece(0, 512);
  for (std::uint64_t i = 0; i < requests.size(); ++i) {
    requests.at(i) = {.tag = i, .segments = &data, .segment_count = 1, .blocks = 1};
  }
  on.queue->submit(requests);
  for (std::size_t i = 0; i < requests.size(); ++i) {
    EXPECT_EQ(requests.at(i).state, i < 4 ? block_state::pending : block_state::refused) << i;
  }
  on.queue->flush();
  on.device.run();
  EXPECT_EQ(on.poll(1).size(), 1U);
  on.queue->submit(std::span{requests}.subspan(4));
  EXPECT_EQ(requests[4].state, block_state::pending);
  EXPECT_EQ(requests[5].state, block_state::refused);
}

TEST(queue_pair, TagsSurviveManyLapsAndCompletionsOutOfOrder) {
  constexpr unsigned seed = 99;
  SCOPED_TRACE(seed);
  std::mt19937 random{seed};
  for (const std::uint32_t completion_entries : {9U, 11U, 18U}) {
    queue_pair_rig on{{.depth = 8, .completion_entries = completion_entries}};
    on.device.faults.hold_io = true;
    std::set<std::uint64_t> in_flight;
    std::uint64_t next = 0;
    for (int round = 0; round < 3000; ++round) {
      if (random() % 2 == 0) {
        const auto request = on.submit_block(next % 4096);
        ASSERT_EQ(request.state == block_state::pending, in_flight.size() < 8);
        if (request.state == block_state::pending) {
          ASSERT_TRUE(in_flight.insert(next % 4096).second);
          ++next;
        }
        on.device.run();
      } else if (!on.device.held.empty()) {
        on.device.release(random() % on.device.held.size());
      }
      if (random() % 3 == 0) {
        for (const block_completion& done : on.poll(random() % 3 + 1)) {
          ASSERT_EQ(in_flight.erase(done.tag), 1U) << "tag " << done.tag << " ended unasked";
        }
      }
    }
    EXPECT_GT(next, 500U);
    EXPECT_EQ(on.queue->bogus_completions(), 0U);
  }
}

TEST(queue_pair, ACompletionRingIsNeverFoundFull) {
  for (const std::uint32_t completion_entries : {9U, 18U}) {
    queue_pair_rig on{{.depth = 8, .completion_entries = completion_entries}};
    for (std::uint64_t lap = 0; lap < 50; ++lap) {
      for (std::uint64_t i = 0; i < 8; ++i) {
        ASSERT_EQ(on.submit_block(i).state, block_state::pending);
      }
      on.device.run();
      EXPECT_EQ(on.device.overflows, 0U) << lap;
      ASSERT_EQ(on.poll().size(), 8U);
    }
  }
}

TEST(queue_pair, ErrorsOfTheDeviceArriveAsItsStatus) {
  queue_pair_rig on;
  on.device.faults.io_status = status_code::unrecovered_read_error;
  on.submit_block(5);
  on.device.run();
  const auto done = on.poll();
  ASSERT_EQ(done.size(), 1U);
  EXPECT_EQ(done[0].status, block_status::unrecovered_read_error);
}

TEST(queue_pair, TheFirstErrorOfARequestInPartsIsItsStatus) {
  for (const std::size_t parent_ends : {0U, 1U, 2U}) {  // the parent's command ends n-th
    queue_pair_rig on;
    on.device.faults.hold_io = true;
    on.submit(block_op::read, 0, 512, {on.piece(0, 262144)}, 42);
    on.submit(block_op::read, 0, 256, {on.piece(0, 131072)}, 43);
    on.device.run();
    ASSERT_EQ(on.device.held.size(), 3U);
    const auto end = [&on](std::size_t index, status_code status) {
      on.device.faults.io_status = status;
      on.device.release(index);
    };
    if (parent_ends == 0) {
      end(0, status_code::success);
      EXPECT_TRUE(on.poll().empty());
      end(0, status_code::write_fault);
    } else if (parent_ends == 1) {
      end(1, status_code::write_fault);
      EXPECT_TRUE(on.poll().empty());
      end(0, status_code::success);
    } else {
      end(1, status_code::write_fault);
      end(0, status_code::internal_error);
    }
    const auto done = on.poll();
    ASSERT_EQ(done.size(), 1U);
    EXPECT_EQ(done[0].tag, 42U);
    EXPECT_EQ(done[0].status, block_status::write_fault);
    end(0, status_code::success);
    ASSERT_EQ(on.poll().size(), 1U);
    for (std::uint64_t i = 0; i < 8; ++i) {
      EXPECT_EQ(on.submit_block(i).state, block_state::pending) << "every command id came back";
    }
  }
}

TEST(queue_pair, ARequestInPartsWaitsForRoomForAllOfThem) {
  queue_pair_rig on{{.depth = 4, .completion_entries = 5}};
  on.device.faults.hold_io = true;
  on.submit_block(1);
  on.submit_block(2);
  EXPECT_EQ(on.submit(block_op::read, 0, 768, {on.piece(0, 393216)}).state, block_state::refused);
  on.device.run();
  EXPECT_EQ(on.device.seen.size(), 2U) << "nothing of it was started";
  on.device.release(0);
  ASSERT_EQ(on.poll().size(), 1U);
  EXPECT_EQ(on.submit(block_op::read, 0, 768, {on.piece(0, 393216)}).state, block_state::pending);
}

TEST(queue_pair, RequestsThatMakeNoSenseEndWithInvalidField) {
  queue_pair_rig on{{.depth = 4, .completion_entries = 5}};
  const segment no_region{.address = on.data.data(), .length = 512, .memory = nullptr};
  struct {
    const char* what;
    std::uint32_t blocks;
    std::vector<segment> segments;
  } const cases[] = {
      {"no blocks", 0, {on.piece(0, 512)}},
      {"no blocks, no bytes", 0, {}},
      {"fewer bytes than blocks", 2, {on.piece(0, 512)}},
      {"more bytes than blocks", 1, {on.piece(0, 1024)}},
      {"more bytes than blocks, in two", 1, {on.piece(0, 512), on.piece(512, 512)}},
      {"sizes that wrap", 1, {on.piece(0, ~std::size_t{0} - 511), on.piece(0, 1024)}},
      {"an odd address", 1, {on.piece(2, 512)}},
      {"memory without a region", 1, {no_region}},
      {"a block in two places", 1, {on.piece(0, 256), on.piece(8192, 256)}},
      {"a transfer over the limit", 2049, {on.piece(0, 2049 * 512)}},
      {"more parts than the queue will ever have room for",
       5,
       {on.piece(0, 512), on.piece(1024, 512), on.piece(2048, 512), on.piece(4096, 512),
        on.piece(8704, 512)}},
      {"more blocks than a number holds", 0xffff'ffff, {on.piece(0, 512)}},
  };
  for (const auto& given : cases) {
    SCOPED_TRACE(given.what);
    const block_request request = on.submit(block_op::write, 0, given.blocks, given.segments);
    EXPECT_EQ(request.state, block_state::done);
    EXPECT_EQ(request.status, block_status::invalid_field);
  }
  on.device.run();
  EXPECT_TRUE(on.device.seen.empty());
  for (std::uint64_t i = 0; i < 4; ++i) {
    EXPECT_EQ(on.submit_block(i).state, block_state::pending) << "no command id was lost";
  }
}

TEST(queue_pair, CompletionsNobodyWaitsForAreCountedAndIgnored) {
  queue_pair_rig on;
  on.device.complete(1, 0, status_code::success);       // nothing is in flight
  on.device.complete(1, 0xffff, status_code::success);  // no such command
  on.device.complete(1, 8, status_code::success);       // the first that there is not
  EXPECT_TRUE(on.poll().empty());
  EXPECT_EQ(on.queue->bogus_completions(), 3U);

  on.submit_block(7);
  on.device.run();
  on.device.complete(1, on.device.seen[0].command_id, status_code::success);  // once more
  const auto done = on.poll();
  ASSERT_EQ(done.size(), 1U);
  EXPECT_EQ(done[0].tag, 7U);
  EXPECT_EQ(on.queue->bogus_completions(), 4U);
}

TEST(queue_pair, ACompletionIsOfTheCommandItNamesWhateverQueueItNames) {
  queue_pair_rig on;
  on.device.faults.hold_io = true;
  on.submit_block(7);
  on.device.run();
  on.device.post(1, {.command_specific = 0,
                     .sq_head = 0xffff,
                     .sq_id = 2,
                     .command_id = on.device.held[0].command_id,
                     .status_and_phase = status_word(status_code::success, 0)});
  const auto done = on.poll();
  ASSERT_EQ(done.size(), 1U);
  EXPECT_EQ(done[0].tag, 7U);
  EXPECT_EQ(on.queue->bogus_completions(), 0U);
}

TEST(queue_pair, APartThatEndsTwiceDoesNotEndTheRequest) {
  queue_pair_rig on;
  on.device.faults.hold_io = true;
  on.submit(block_op::read, 0, 768, {on.piece(0, 393216)}, 42);
  on.device.run();
  const std::uint16_t parent = on.device.held[0].command_id;
  for (int i = 0; i < 5; ++i) {
    on.device.complete(1, parent, status_code::success);
  }
  EXPECT_TRUE(on.poll().empty());
  EXPECT_EQ(on.queue->bogus_completions(), 4U);
}

TEST(queue_pair, ADeviceThatAnswersOnlyNonsenseGetsOneLapPerPoll) {
  queue_pair_rig on;
  for (int i = 0; i < 40; ++i) {  // laps over itself: the device ignores our head
    on.device.complete(1, 0, status_code::success);
  }
  EXPECT_TRUE(on.poll().empty());
  EXPECT_LE(on.queue->bogus_completions(), 9U);
}

TEST(queue_pair, EntriesOfThePreviousLapAreNotReportedAgain) {
  queue_pair_rig on{{.depth = 2, .completion_entries = 3}};
  for (std::uint64_t i = 0; i < 3; ++i) {  // one full lap
    on.submit_block(i);
    on.device.run();
    EXPECT_EQ(on.poll().size(), 1U);
  }
  on.submit_block(3);  // same command id as before, and slot 0 holds a completion for it
  EXPECT_TRUE(on.poll().empty());
  EXPECT_EQ(on.queue->bogus_completions(), 0U);
}

TEST(queue_pair, AnIdleDeviceIsToldAtOnceAndABusyOneEveryFewCommands) {
  queue_pair_rig on{{.depth = 32, .completion_entries = 33, .doorbells = doorbell_policy::eager}};
  const segment data = on.piece(0, 512);
  block_request request{.segments = &data, .segment_count = 1, .blocks = 1};
  std::vector<std::size_t> seen;
  for (int i = 0; i < 20; ++i) {
    on.queue->submit({&request, 1});
    on.device.run();
    seen.push_back(on.device.seen.size());
  }
  std::vector<std::size_t> expected(16, 1);
  expected.insert(expected.end(), 4, 17);
  EXPECT_EQ(seen, expected);
  on.queue->flush();
  on.device.run();
  EXPECT_EQ(on.device.seen.size(), 20U);
}

TEST(queue_pair, ABurstIsToldAtFlushOnly) {
  queue_pair_rig on{{.depth = 32, .completion_entries = 33}};
  const segment data = on.piece(0, 512);
  std::array<block_request, 20> requests{};
  requests.fill({.segments = &data, .segment_count = 1, .blocks = 1});
  on.queue->submit(requests);
  on.device.run();
  EXPECT_TRUE(on.device.seen.empty());
  on.queue->flush();
  on.device.run();
  EXPECT_EQ(on.device.seen.size(), 20U);
}

TEST(queue_pair, ADoorbellThatCannotBePostedIsPostedLater) {
  queue_pair_rig on{{.mapped = false}};
  on.transport.options.post_room = 0;
  on.transport.advance({});
  on.submit_block(1);
  on.device.run();
  EXPECT_TRUE(on.device.seen.empty());
  on.transport.options.post_room = 8;
  on.transport.advance({});
  EXPECT_TRUE(on.poll().empty());  // rings again
  on.device.run();
  EXPECT_EQ(on.poll().size(), 1U);
}

TEST(queue_pair, PostedDoorbellsAreOnePerBurst) {
  queue_pair_rig on{{.completion_entries = 18, .mapped = false}};
  for (int burst = 0; burst < 10; ++burst) {
    const segment data = on.piece(0, 512);
    std::array<block_request, 8> requests{};
    requests.fill({.segments = &data, .segment_count = 1, .blocks = 1});
    on.queue->submit(requests);
    on.queue->flush();
    on.device.run();
    ASSERT_EQ(on.poll().size(), 8U);
  }
  EXPECT_EQ(on.device.overflows, 0U);
  EXPECT_LE(on.transport.posts, 10U + 10U / 2);  // heads are told half as often
}

TEST(queue_pair, WhatIsInFlightWhenTheDeviceGoesEndsWithDeviceGone) {
  queue_pair_rig on;
  on.device.faults.hold_io = true;
  on.submit(block_op::read, 0, 768, {on.piece(0, 393216)}, 1);  // three commands
  on.submit_block(2);
  on.submit_block(3);
  on.device.run();
  on.device.release(0);  // a part of the first
  on.device.release(3);  // the last
  on.control.state = queue_state::gone;
  std::multiset<std::pair<std::uint64_t, block_status>> ends;
  for (int i = 0; i < 10; ++i) {
    for (const block_completion& done : on.poll(1)) {
      ends.emplace(done.tag, done.status);
    }
  }
  EXPECT_EQ(ends,
            (std::multiset<std::pair<std::uint64_t, block_status>>{{1, block_status::device_gone},
                                                                   {2, block_status::device_gone},
                                                                   {3, block_status::success}}));
  const block_request late = on.submit_block(4);
  EXPECT_EQ(late.state, block_state::done);
  EXPECT_EQ(late.status, block_status::device_gone);
}

TEST(queue_pair, ARequestThatWasEndedForTheDeviceIsNotEndedByItAgain) {
  for (const queue_state why : {queue_state::gone, queue_state::stopped}) {
    queue_pair_rig on;
    on.device.faults.hold_io = true;
    on.submit(block_op::read, 0, 512, {on.piece(0, 262144)}, 1);  // two commands
    on.submit_block(2);
    on.device.run();
    ASSERT_EQ(on.device.held.size(), 3U);
    on.device.release(0);  // the first of the two; the request waits for the other
    EXPECT_TRUE(on.poll().empty());
    on.control.state = why;
    auto done = on.poll(1);
    ASSERT_EQ(done.size(), 1U);
    EXPECT_EQ(done[0].tag, 1U);
    on.device.release(0);  // the other
    done = on.poll();
    ASSERT_EQ(done.size(), 1U);
    EXPECT_EQ(done[0].tag, 2U);
    EXPECT_TRUE(on.control.rewound);
  }
}

TEST(queue_pair, AStoppedQueueAbortsAndStartsAnew) {
  queue_pair_rig on;
  on.device.faults.hold_io = true;
  on.submit_block(1);
  on.submit_block(2);
  on.device.run();
  on.device.release(0);
  on.control.state = queue_state::paused;
  EXPECT_EQ(on.submit_block(3).state, block_state::refused);
  on.control.state = queue_state::stopped;
  auto done = on.poll();
  ASSERT_EQ(done.size(), 2U);
  EXPECT_EQ(done[0].status, block_status::success);
  EXPECT_EQ(done[1].tag, 2U);
  EXPECT_EQ(done[1].status, block_status::aborted);
  EXPECT_TRUE(on.control.rewound);
  EXPECT_TRUE(on.poll().empty());
  EXPECT_EQ(on.queue->bogus_completions(), 0U);
}

}  // namespace
}  // namespace runnel::nvme
