// Goal: a command that takes too long is aborted, what an abort does not end is ended by a reset,
// and what resets do not mend by the end of the controller; each request ends once, and never while
// the device could reach its memory. Method: as in controller_test.cc, with minutes of its clock.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <set>
#include <span>

#include "drivers/nvme/controller.h"
#include "tests/sim/nvme_controller_rig.h"
#include "tests/sim/nvme_queue_pair_rig.h"

namespace runnel::nvme {
namespace {

using std::chrono::seconds;

/// A controller that is ready, with one queue whose commands the device keeps.
class rig : public controller_rig {
 public:
  explicit rig(std::uint32_t depth = 8, controller_options wishes = {})
      : controller_rig{{}, std::move(wishes)} {
    EXPECT_TRUE(reach(controller_state::ready));
    queues.push_back(subject->make_queue(depth).value());
    data = memory.allocate(4096, 4096).value();
    device.faults.hold_io = true;
  }
  void submit_write(std::uint64_t tag) {
    EXPECT_EQ(submit(block_op::write, tag, data, tag).state, block_state::pending);
  }
  /// Lets so much time pass, or a little more; less when nothing is left to do.
  void pass(nanoseconds time) {
    const instant end = clock.now() + time;
    while (clock.now() < end && subject->advance(clock.now()) != never) {
      turn();
    }
    turn();
  }
  [[nodiscard]] std::uint64_t bogus_completions() const {
    return static_cast<const queue_pair&>(*queues[0]).bogus_completions();
  }

  std::span<std::byte> data;
};

TEST(timeout, ACommandOverItsTimeIsAborted) {
  rig on;
  on.submit_write(1);
  on.pass(seconds{29});
  EXPECT_EQ(on.device.aborts, 0U);
  on.submit_write(2);
  on.pass(seconds{4});
  EXPECT_EQ(on.device.aborts, 1U) << "one has had 30 s";
  ASSERT_EQ(on.completions.size(), 1U);
  EXPECT_EQ(on.completions[0].tag, 1U);
  EXPECT_EQ(on.completions[0].status, block_status::aborted);
  on.device.release(0);
  on.wait_for(2);
  EXPECT_EQ(on.completions[1].status, block_status::success);
  EXPECT_EQ(on.subject->state(), controller_state::ready);
  EXPECT_EQ(on.subject->events().aborts, 1U);
  EXPECT_EQ(on.subject->events().resets, 0U);
  EXPECT_EQ(on.device.enables, 1U);
}

TEST(timeout, TheTimeOfACommandIsAnOption) {
  rig on{8, {.io_limit = std::chrono::milliseconds{1600}}};
  on.submit_write(1);
  on.pass(std::chrono::milliseconds{1500});
  EXPECT_EQ(on.device.aborts, 0U);
  on.pass(std::chrono::milliseconds{300});
  EXPECT_EQ(on.device.aborts, 1U);
}

TEST(timeout, ACommandAfterLongIdlenessHasAllItsTime) {
  rig on;
  on.pass(seconds{1000});
  on.submit_write(1);
  on.pass(seconds{29});
  EXPECT_EQ(on.device.aborts, 0U);
}

TEST(timeout, AllCommandsOfAStuckQueueAreAbortedOneByOne) {
  rig on{32};
  for (std::uint64_t tag = 0; tag < 32; ++tag) {
    on.submit_write(tag);
  }
  on.pass(seconds{120});
  ASSERT_EQ(on.completions.size(), 32U);
  std::set<std::uint64_t> tags;
  for (const block_completion& done : on.completions) {
    EXPECT_EQ(done.status, block_status::aborted);
    tags.insert(done.tag);
  }
  EXPECT_EQ(tags.size(), 32U);
  EXPECT_EQ(on.device.aborts, 32U);
  EXPECT_EQ(on.subject->events().resets, 0U);
  on.device.faults.hold_io = false;
  for (std::uint64_t tag = 0; tag < 32; ++tag) {
    on.submit_write(tag);
  }
}

TEST(timeout, ARequestInPartsIsAbortedWithItsStatus) {
  rig on;
  const auto large = on.memory.allocate(393216, 4096).value();  // three commands
  EXPECT_EQ(on.submit(block_op::write, 0, large, 7).state, block_state::pending);
  on.turn();
  ASSERT_EQ(on.device.held.size(), 3U);
  on.device.release(2);
  on.pass(seconds{60});
  EXPECT_EQ(on.device.aborts, 2U);
  ASSERT_EQ(on.completions.size(), 1U);
  EXPECT_EQ(on.completions[0].tag, 7U);
  EXPECT_EQ(on.completions[0].status, block_status::aborted);
  for (std::uint64_t tag = 0; tag < 8; ++tag) {
    on.submit_write(tag);  // every command id came back
  }
}

TEST(timeout, ACommandThatAnAbortDoesNotEndIsEndedByAReset) {
  struct {
    const char* what;
    void (*happens)(sim::nvme_faults& faults);
  } const cases[] = {
      {"the abort is lost", [](auto& faults) { faults.unanswered = {admin_opcode::abort}; }},
      {"it finds nothing", [](auto& faults) { faults.aborts_nothing = true; }},
      {"it is refused",
       [](auto& faults) {
         faults.admin_status[admin_opcode::abort] = status_code::abort_limit_exceeded;
       }},
  };
  for (const auto& given : cases) {
    SCOPED_TRACE(given.what);
    rig on;
    given.happens(on.device.faults);
    if (on.device.faults.unanswered.contains(admin_opcode::abort)) {
      on.device.faults.aborts_nothing = true;
    }
    on.submit_write(1);
    on.submit_write(2);
    on.pass(seconds{31});
    EXPECT_TRUE(on.completions.empty()) << "the device may still reach their memory";
    on.pass(seconds{15});
    ASSERT_EQ(on.completions.size(), 2U);
    EXPECT_EQ(on.completions[0].status, block_status::aborted);
    EXPECT_EQ(on.completions[1].status, block_status::aborted);
    EXPECT_EQ(on.device.enables, 2U);
    EXPECT_EQ(on.subject->state(), controller_state::ready);
    EXPECT_EQ(on.subject->events().resets, 1U);
    ASSERT_TRUE(on.subject->events().reset_reason.has_value());
    EXPECT_EQ(on.subject->events().reset_reason->operation, "abort a command");
    on.device.faults.hold_io = false;
    on.submit_write(3);
    on.wait_for(3);
    ASSERT_EQ(on.completions.size(), 3U);
    EXPECT_EQ(on.completions[2].status, block_status::success);
  }
}

TEST(timeout, WhenNoResetHelpsTheControllerIsGone) {
  rig on;
  on.device.faults.aborts_nothing = true;
  on.device.faults.never_ready = true;
  on.submit_write(1);
  while (on.subject->state() != controller_state::failed) {
    on.turn();
    ASSERT_LT(on.clock.now() - instant{}, seconds{120});
  }
  EXPECT_EQ(on.subject->reason().operation, "wait for ready");
  EXPECT_EQ(on.subject->events().resets, 3U);
  EXPECT_EQ(on.device.enables, 4U);
  ASSERT_EQ(on.completions.size(), 1U);
  EXPECT_EQ(on.completions[0].status, block_status::aborted) << "the first reset ended it";
  const block_request late = on.submit(block_op::write, 0, on.data, 9);
  EXPECT_EQ(late.state, block_state::done);
  EXPECT_EQ(late.status, block_status::device_gone);
}

TEST(timeout, ACommandAtADeviceThatCannotBeDisabledKeepsItsMemory) {
  rig on;
  on.device.faults.aborts_nothing = true;
  on.device.faults.never_disabled = true;
  on.submit_write(1);
  while (on.subject->state() != controller_state::failed) {
    on.turn();
    ASSERT_LT(on.clock.now() - instant{}, seconds{120});
  }
  on.pass(seconds{60});
  EXPECT_TRUE(on.completions.empty());
  on.device.faults.never_disabled = false;
  on.device.write(0x14, enabled_configuration(4096));
  on.pass(seconds{5});
  ASSERT_EQ(on.completions.size(), 1U);
  EXPECT_EQ(on.completions[0].status, block_status::device_gone);
}

TEST(timeout, ResetsThatHelpAreNotCountedTogether) {
  rig on;
  on.device.faults.aborts_nothing = true;
  for (std::uint64_t round = 1; round <= 5; ++round) {
    on.submit_write(round);
    on.pass(seconds{40});
    ASSERT_EQ(on.completions.size(), round);
    on.pass(seconds{2});
    EXPECT_EQ(on.subject->state(), controller_state::ready);
    EXPECT_EQ(on.subject->events().resets, round);
  }
}

TEST(timeout, WhatTheWatchFindsIsMendedByAReset) {
  for (const bool fatal : {true, false}) {
    SCOPED_TRACE(fatal);
    rig on;
    on.submit_write(1);
    on.turn();
    fatal ? on.device.fail() : on.device.write(0x14, 0);  // or somebody disables it
    on.pass(seconds{5});
    EXPECT_EQ(on.subject->state(), controller_state::ready);
    EXPECT_EQ(on.subject->events().reset_reason->operation, "watch");
    ASSERT_EQ(on.completions.size(), 1U);
    EXPECT_EQ(on.completions[0].status, block_status::aborted);
  }
}

TEST(timeout, TheAnswerOfACommandThatWasAbortedIsIgnoredWhenItComesLate) {
  rig on{1};
  on.submit_write(1);
  on.turn();
  const std::uint16_t id = on.device.held[0].command_id;
  on.wait_for(1);
  EXPECT_EQ(on.completions[0].status, block_status::aborted);
  for (std::uint64_t tag = 2; tag < 130; ++tag) {  // ids are used again, but not this one
    on.submit(block_op::write, tag, on.data, tag);
  }
  on.device.complete(1, id, status_code::success);
  on.turn();
  EXPECT_EQ(on.completions.size(), 1U);
  EXPECT_EQ(on.bogus_completions(), 1U);
}

// The same by hand, one queue pair alone.

void tick(queue_pair_rig& on, int times) {
  for (int i = 0; i < times; ++i) {
    on.control.ticks.fetch_add(1);
    EXPECT_TRUE(on.poll().empty());
  }
}

TEST(timeout, AnIdIsNotUsedAgainWhileAnAbortOfItMayBeUnderWay) {
  queue_pair_rig on{{.depth = 1, .completion_entries = 2}};
  on.device.faults.hold_io = true;
  on.submit_block(1);
  on.device.run();
  tick(on, 16);
  EXPECT_EQ(on.control.overdue.load(), 0U);
  tick(on, 1);
  EXPECT_EQ(on.control.overdue.load(), 1U);
  on.device.release(0);
  ASSERT_EQ(on.poll().size(), 1U);
  EXPECT_EQ(on.control.overdue.load(), 1U | queue_control::ended);
  tick(on, 1);
  EXPECT_EQ(on.submit_block(2).state, block_state::refused);
  on.control.overdue = 0;
  tick(on, 1);
  EXPECT_EQ(on.submit_block(2).state, block_state::pending);
}

TEST(timeout, APartThatWasOverdueComesBackWhicheverEndsFirst) {
  for (const bool overdue_ends_first : {true, false}) {
    for (const bool abort_ends_first : {true, false}) {
      SCOPED_TRACE(testing::Message() << overdue_ends_first << abort_ends_first);
      queue_pair_rig on{{.depth = 2, .completion_entries = 3}};
      on.device.faults.hold_io = true;
      on.submit(block_op::read, 0, 512, {on.piece(0, 262144)}, 7);
      on.device.run();
      ASSERT_EQ(on.device.held.size(), 2U);
      tick(on, 17);
      const std::uint32_t overdue = on.control.overdue.load();
      ASSERT_NE(overdue, 0U);
      const bool is_first = on.device.held[0].command_id + 1U == overdue;
      on.device.release(is_first == overdue_ends_first ? 0 : 1);
      EXPECT_TRUE(on.poll().empty());
      if (overdue_ends_first && abort_ends_first) {
        on.control.overdue = 0;
        on.control.ticks.fetch_sub(1);  // the other is not to be found overdue
        tick(on, 0);
        on.poll();
      }
      on.device.release(0);
      EXPECT_EQ(on.poll().size(), 1U);
      on.control.overdue = 0;
      tick(on, 18);  // it rests
      EXPECT_EQ(on.submit_block(1).state, block_state::pending);
      EXPECT_EQ(on.submit_block(2).state, block_state::pending);
    }
  }
}

TEST(timeout, AnIdThatWasAbortedRestsAsLongAsACommandMayTake) {
  queue_pair_rig on{{.depth = 2, .completion_entries = 3}};
  on.device.faults.hold_io = true;
  on.submit_block(1);
  on.device.run();
  const std::uint16_t late = on.device.held[0].command_id;
  tick(on, 17);
  on.device.release(0);
  ASSERT_EQ(on.poll().size(), 1U);
  on.control.overdue = 0;
  tick(on, 1);
  EXPECT_EQ(on.submit_block(2).state, block_state::pending);
  EXPECT_EQ(on.submit_block(3).state, block_state::refused);
  on.device.complete(1, late, status_code::success);
  EXPECT_TRUE(on.poll().empty());
  on.device.run();
  on.device.release(0);
  ASSERT_EQ(on.poll().size(), 1U);
  tick(on, 17);
  EXPECT_EQ(on.submit_block(4).state, block_state::pending);
  EXPECT_EQ(on.submit_block(5).state, block_state::pending);
}

TEST(timeout, HalfOfTheIdsNeverRest) {
  queue_pair_rig on{{.depth = 4, .completion_entries = 5}};
  on.device.faults.hold_io = true;
  for (std::uint64_t tag = 0; tag < 4; ++tag) {
    on.submit_block(tag);
  }
  on.device.run();
  tick(on, 17);
  for (int i = 0; i < 4; ++i) {  // one after another is found late, and ends
    const std::uint32_t late = on.control.overdue.load();
    ASSERT_NE(late, 0U);
    const auto found = std::ranges::find(on.device.held, late - 1, &submission_entry::command_id);
    on.device.release(static_cast<std::size_t>(found - on.device.held.begin()));
    ASSERT_EQ(on.poll().size(), 1U);
    on.control.overdue = 0;
    tick(on, 1);
  }
  EXPECT_EQ(on.submit_block(4).state, block_state::pending);
  EXPECT_EQ(on.submit_block(5).state, block_state::pending);
  EXPECT_EQ(on.submit_block(6).state, block_state::refused);
}

TEST(timeout, ACoreThatComesLateTakesAnswersInBeforeItLooksForLateOnes) {
  queue_pair_rig on;
  for (std::uint64_t tag = 0; tag < 8; ++tag) {
    on.submit_block(tag);
  }
  on.device.run();
  on.control.ticks.fetch_add(100);
  EXPECT_EQ(on.poll(4).size(), 4U);
  EXPECT_EQ(on.control.overdue.load(), 0U);
  EXPECT_EQ(on.poll(64).size(), 4U);
  EXPECT_EQ(on.control.overdue.load(), 0U);
}

}  // namespace
}  // namespace runnel::nvme
