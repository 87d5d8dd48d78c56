// Goal: a queue can be armed when something will tell of its next completion, and then it does.
// Method: a simulated device with and without interrupts; eventfds are looked at with poll(2).

#include <gtest/gtest.h>
#include <poll.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "tests/sim/nvme_controller_rig.h"

namespace runnel::nvme {
namespace {

const controller_options armable{.queue_count = 2, .queue_depth = 16, .interrupts = true};

[[nodiscard]] bool readable(int fd) {
  pollfd look{.fd = fd, .events = POLLIN, .revents = 0};
  return ::poll(&look, 1, 0) == 1;
}

/// A device whose two queues are taken.
struct interrupting_rig : controller_rig {
  explicit interrupting_rig(controller_options wishes, std::uint32_t vectors)
      : controller_rig{{}, std::move(wishes), {.vectors = vectors}} {
    EXPECT_TRUE(reach(controller_state::ready));
    for (int i = 0; i < 2; ++i) {
      queues.push_back(subject->make_queue(16).value());
    }
  }
  /// Has the first queue in flight what the device does not end by itself.
  void hold_one() {
    device.faults.hold_io = true;
    EXPECT_EQ(submit(block_op::write, 0, memory.allocate(4096, 4096).value(), 7).state,
              block_state::pending);
    static_cast<void>(subject->advance(clock.now()));
    ASSERT_EQ(device.held.size(), 1U);
  }
};

TEST(Interrupts, ACompletionMakesTheWakeOfItsQueueReadableUntilItIsDisarmed) {
  interrupting_rig on{armable, 3};
  block_queue& queue = *on.queues[0];
  on.hold_one();
  EXPECT_TRUE(queue.arm());
  EXPECT_FALSE(readable(queue.wake_fd()));
  on.device.release(0);
  EXPECT_TRUE(readable(queue.wake_fd()));
  EXPECT_FALSE(readable(on.queues[1]->wake_fd()));
  queue.disarm();
  EXPECT_FALSE(readable(queue.wake_fd()));
  on.wait_for(1);
  EXPECT_EQ(on.completions.size(), 1U);
}

TEST(Interrupts, QueuesTellAfterAResetThatWipedTheirVectorsToo) {
  interrupting_rig on{armable, 3};
  on.device.eventfds.clear();
  ASSERT_TRUE(on.subject->reset().has_value());
  ASSERT_TRUE(on.reach(controller_state::ready));
  on.hold_one();
  on.device.release(0);
  EXPECT_TRUE(readable(on.queues[0]->wake_fd()));
}

TEST(Interrupts, WithoutThemAQueueIsArmedOnlyWhenNothingIsInFlight) {
  controller_options unwanted = armable;
  unwanted.interrupts = false;
  struct {
    const char* what;
    controller_options wishes;
    std::uint32_t vectors;
  } const cases[] = {{"a device without", armable, 0},
                     {"one vector too few", armable, 2},
                     {"not wanted", unwanted, 3}};
  for (const auto& given : cases) {
    SCOPED_TRACE(given.what);
    interrupting_rig on{given.wishes, given.vectors};
    EXPECT_TRUE(on.device.eventfds.empty());
    EXPECT_EQ(on.queues[0]->wake_fd(), -1);
    EXPECT_TRUE(on.queues[0]->arm());
    on.hold_one();
    EXPECT_FALSE(on.queues[0]->arm());
    on.device.release(0);
    on.wait_for(1);
    EXPECT_TRUE(on.queues[0]->arm());
  }
}

TEST(Interrupts, WhatWaitsForItsDoorbellKeepsItsCoreAwake) {
  controller_rig on{{}, armable, {.map_doorbells = false, .vectors = 3}};
  ASSERT_TRUE(on.reach(controller_state::ready));
  on.queues.push_back(on.subject->make_queue(16).value());
  on.transport->options.post_room = 0;
  static_cast<void>(on.subject->advance(on.clock.now()));
  on.submit(block_op::flush, 0, {}, 1);
  EXPECT_FALSE(on.queues[0]->arm());
  on.transport->options.post_room = 8;
  on.wait_for(1);
  EXPECT_EQ(on.completions.size(), 1U);
  EXPECT_TRUE(on.queues[0]->arm());
}

TEST(Interrupts, ReadCompletionsThatWaitForTheirDoorbellKeepTheirCoreAwake) {
  controller_rig on{{}, armable, {.map_doorbells = false, .vectors = 3}};
  ASSERT_TRUE(on.reach(controller_state::ready));
  on.queues.push_back(on.subject->make_queue(16).value());
  block_queue& queue = *on.queues[0];
  const auto leave_room_for = [&on](std::size_t posts) {
    on.transport->options.post_room = posts;
    static_cast<void>(on.subject->advance(on.clock.now()));
  };
  on.device.faults.hold_io = true;
  leave_room_for(1);
  on.submit(block_op::flush, 0, {}, 99);
  on.turn();
  on.device.faults.hold_io = false;
  std::uint64_t ended = 0;
  do {  // seldom is the device told how far we have read
    leave_room_for(1);
    on.submit(block_op::flush, 0, {}, ended);
    leave_room_for(0);
    on.wait_for(++ended);
  } while (queue.arm() && ended < 64);
  EXPECT_EQ(on.completions.size(), ended);
  EXPECT_FALSE(queue.arm());
  leave_room_for(1);
  on.turn();
  EXPECT_TRUE(queue.arm());
}

TEST(Interrupts, AHostThatMayBeInterruptedSaysSoonHowFarItHasRead) {
  for (const bool interrupts : {false, true}) {
    controller_options wishes = armable;
    wishes.interrupts = interrupts;
    interrupting_rig on{wishes, 3};
    const auto data = on.memory.allocate(4096, 4096).value();
    for (std::uint64_t i = 0; i < 3; ++i) {
      on.submit(block_op::write, i, data, i);
      on.wait_for(i + 1);
    }
    on.turn();
    const std::size_t head = cq_doorbell_offset(1, 4) - static_cast<std::size_t>(reg::doorbells);
    EXPECT_EQ(mmio_read<std::uint32_t>(&on.device.doorbells()[head]), interrupts ? 3U : 0U);
  }
}

}  // namespace
}  // namespace runnel::nvme
