// Goal: with shadow doorbells a device is told exactly when it wants to be, over the ends of rings,
// and never less than without them.
// Method: the comparison by itself against counting, then a controller over posted doorbells, whose
// messages are counted.
#include "drivers/nvme/doorbell.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <vector>

#include "tests/sim/nvme_controller_rig.h"

namespace runnel::nvme {
namespace {

TEST(doorbell, IsRungWhenTheValuePassesTheEventIndex) {
  constexpr std::uint32_t entries = 7;
  for (std::uint32_t before = 0; before < entries; ++before) {
    for (std::uint32_t steps = 1; steps < entries; ++steps) {
      for (std::uint32_t index = 0; index < entries; ++index) {
        bool passes = false;
        for (std::uint32_t step = 0; step < steps; ++step) {
          passes = passes || (before + step) % entries == index;
        }
        const std::uint32_t now = (before + steps) % entries;
        EXPECT_EQ(passes_event_index(index, now, before), passes)
            << before << " to " << now << ", index " << index;
      }
    }
  }
  EXPECT_TRUE(passes_event_index(65535, 0, 65535)) << "the largest ring";
  EXPECT_FALSE(passes_event_index(0, 0, 65535));
}

TEST(doorbell, AShadowHoldsWhatTheDeviceWasNotTold) {
  alignas(4) std::array<std::byte, 4> word{};
  std::uint32_t value = 0;
  std::uint32_t index = 3;
  doorbell bell = doorbell{word.data()}.with({.value = &value, .event_index = &index});
  const auto told = [&word] { return mmio_read<std::uint32_t>(word.data()); };
  EXPECT_TRUE(bell.ring(2));
  EXPECT_EQ(value, 2U);
  EXPECT_EQ(told(), 0U);
  value = 77;  // the device's memory as well
  EXPECT_TRUE(bell.ring(5));
  EXPECT_EQ(value, 5U);
  EXPECT_EQ(told(), 5U);
  EXPECT_TRUE(bell.ring(6));
  EXPECT_EQ(told(), 5U);
  bell.rewind();
  index = 0;
  EXPECT_TRUE(bell.ring(1));
  EXPECT_EQ(told(), 1U);
}

TEST(doorbell, WhatWasShownInATurnIsToldOfOnce) {
  alignas(4) std::array<std::byte, 4> word{};
  std::uint32_t value = 0;
  const std::uint32_t index = 3;
  doorbell bell = doorbell{word.data()}.with({.value = &value, .event_index = &index});
  const auto told = [&word] { return mmio_read<std::uint32_t>(word.data()); };
  EXPECT_TRUE(bell.show(2));
  EXPECT_TRUE(bell.show(5));
  EXPECT_EQ(value, 5U);
  EXPECT_EQ(told(), 0U) << "it passed the index, but is told at the end";
  EXPECT_TRUE(bell.show(6));
  EXPECT_TRUE(bell.tell());
  EXPECT_EQ(told(), 6U);
  mmio_write<std::uint32_t>(word.data(), 0);
  EXPECT_TRUE(bell.tell());
  EXPECT_EQ(told(), 0U);
}

TEST(doorbell, AMessageThatFindsNoRoomIsSentLaterThoughTheShadowSaysItAlready) {
  sim::nvme_device device;
  sim::nvme_transport transport{device, {.post_room = 0}};
  transport.advance({});
  std::uint32_t value = 0;
  const std::uint32_t index = 0;
  doorbell bell = doorbell{transport, 0x1000}.with({.value = &value, .event_index = &index});
  EXPECT_FALSE(bell.ring(1));
  EXPECT_EQ(value, 1U);
  EXPECT_EQ(transport.posts, 0U);
  transport.options.post_room = 1;
  transport.advance({});
  EXPECT_TRUE(bell.tell());
  EXPECT_EQ(transport.posts, 1U);
}

/// Writes one block at a time. @return messages that it took
std::size_t write_blocks(controller_rig& on, std::uint64_t count) {
  const auto data = on.memory.allocate(4096, 4096).value();
  const std::size_t before = on.transport->posts;
  on.completions.clear();
  for (std::uint64_t i = 0; i < count; ++i) {
    EXPECT_EQ(on.submit(block_op::write, i, data, i).state, block_state::pending);
    on.wait_for(i + 1);
    EXPECT_EQ(on.completions.size(), i + 1);
  }
  return on.transport->posts - before;
}

TEST(doorbell, ADeviceIsToldByMemoryAndByMessageOnlyWhenItWantsToBe) {
  struct {
    const char* what;
    bool device;
    bool wished;
    std::uint32_t event_lag;
    bool rings;
  } const cases[] = {
      {"a device without", false, true, 0, true},
      {"not wanted", true, false, 0, true},
      {"a device that sleeps", true, true, 0, true},
      {"a device that polls", true, true, ~0U, false},
  };
  for (const auto& given : cases) {
    SCOPED_TRACE(given.what);
    controller_rig on{{.shadow_doorbells = given.device},
                      {.queue_depth = 16, .shadow_doorbells = given.wished},
                      {.map_doorbells = false}};
    on.device.event_lag = given.event_lag;
    ASSERT_TRUE(on.reach(controller_state::ready));
    EXPECT_EQ(on.subject->details().shadows_used, given.device && given.wished);
    on.queues.push_back(on.subject->make_queue(16).value());
    const std::size_t messages = write_blocks(on, 200);
    if (given.rings) {
      EXPECT_GE(messages, 200U);
    } else {
      EXPECT_LE(messages, 20U) << "the admin queue's, and the first";
    }
    EXPECT_EQ(on.device.overflows, 0U);
  }
}

TEST(doorbell, OneThatIsAMessageIsRungLaterWhileAnotherCoreSendsOne) {
  sim::nvme_device device;
  sim::nvme_transport transport{device, {}};
  transport_guard guard;
  doorbell bell = doorbell{transport, sq_doorbell_offset(1, 4)}.guarded_by(guard);
  const std::size_t before = transport.posts;
  ASSERT_TRUE(guard.try_enter());
  EXPECT_FALSE(bell.ring(1));
  EXPECT_EQ(transport.posts, before);
  guard.leave();
  EXPECT_TRUE(bell.ring(1));
  EXPECT_EQ(transport.posts, before + 1);
  EXPECT_TRUE(guard.try_enter()) << "it was given back";
}

TEST(doorbell, ShadowsAreSharedAgainAfterAReset) {
  controller_rig on{{.shadow_doorbells = true}, {.queue_depth = 16}, {.map_doorbells = false}};
  on.device.event_lag = ~0U;
  ASSERT_TRUE(on.reach(controller_state::ready));
  on.queues.push_back(on.subject->make_queue(16).value());
  write_blocks(on, 25);
  ASSERT_TRUE(on.subject->reset().has_value());
  ASSERT_TRUE(on.reach(controller_state::ready));
  on.turn();
  EXPECT_EQ(on.device.seen.size(), 25U) << "no command of before the reset is there any more";
  EXPECT_LE(write_blocks(on, 200), 20U);
  on.device.faults.admin_status[admin_opcode::doorbell_buffer_config] = status_code::invalid_field;
  ASSERT_TRUE(on.subject->reset().has_value());
  ASSERT_TRUE(on.reach(controller_state::failed));
  EXPECT_EQ(on.subject->reason().operation, "share doorbells");
}

TEST(doorbell, ADeviceThatRefusesShadowsWorksWithout) {
  controller_rig on{{.shadow_doorbells = true}};
  on.device.faults.admin_status[admin_opcode::doorbell_buffer_config] = status_code::invalid_field;
  ASSERT_TRUE(on.reach(controller_state::ready));
  EXPECT_FALSE(on.subject->details().shadows_used);
  on.queues.push_back(on.subject->make_queue(16).value());
  write_blocks(on, 40);
}

TEST(doorbell, AsManyQueuesAsAPageHasShadowsForHaveThem) {
  controller_rig on{{.queues = 40, .doorbell_shift = 4, .shadow_doorbells = true},
                    {.queue_count = 31}};
  EXPECT_TRUE(on.reach(controller_state::ready));
  EXPECT_TRUE(on.subject->details().shadows_used);
}

}  // namespace
}  // namespace runnel::nvme
