// Goal: a host that rings in its own memory is served as any other, is not made to ring twice, and
// takes its pages away without harm. Method: a fake host that follows the rule of event indices, or
// breaks it.

#include <gtest/gtest.h>

#include <cstring>

#include "apps/target/fake_driver.h"
#include "drivers/nvme/spec_logs.h"

namespace runnel::target {
namespace {

using fake::host_queue;
using fake::machine;
using nvme::status_code;

constexpr std::uint64_t shadow = machine::data + 0x8'0000;
constexpr std::uint64_t event_indices = shadow + 0x1000;

class ShadowDoorbells : public testing::Test {
 protected:
  ShadowDoorbells() : host{{.doorbell_stride_bytes = 4, .shadow_doorbells = true}} {
    std::memset(host.ram.at(shadow), 0x5a, 0x2000);  // old drivers leave garbage there
    host.enable();
  }

  static nvme::submission_entry config(std::uint64_t prp1, std::uint64_t prp2) {
    nvme::submission_entry command{};
    command.opcode = static_cast<std::uint8_t>(nvme::admin_opcode::doorbell_buffer_config);
    command.prp1 = prp1;
    command.prp2 = prp2;
    return command;
  }
  std::uint32_t word(std::uint64_t page, std::size_t index) {
    std::uint32_t value = 0;
    std::memcpy(&value, host.ram.at(page + 4 * index), sizeof value);
    return value;
  }
  /// Writes the shadow. @return whether the host must ring the register too; then it does
  bool ring(std::size_t index, std::uint16_t value) {
    const auto old = static_cast<std::uint16_t>(word(shadow, index));
    const std::uint32_t wide = value;
    std::memcpy(host.ram.at(shadow + 4 * index), &wide, sizeof wide);
    const auto event = static_cast<std::uint16_t>(word(event_indices, index));
    const bool needed = static_cast<std::uint16_t>(value - event - 1) <
                        static_cast<std::uint16_t>(value - old);  // as Linux decides
    if (needed) {
      host.set_doorbell(index, value);
    }
    return needed;
  }
  void place(host_queue& queue, std::uint64_t block) {
    host.place(queue, machine::io(nvme::io_opcode::read, block, 1, machine::data));
  }
  /// Takes all answers. @return how many
  unsigned take_all(host_queue& queue) {
    unsigned count = 0;
    for (; host.peek(queue); ++count) {
      if (++queue.head == queue.entries) {
        queue.head = 0;
        queue.phase ^= 1U;
      }
    }
    rings += ring(2U * queue.id + 1, queue.head) ? 1U : 0U;
    return count;
  }

  machine host;
  unsigned rings = 0;
};

// Event indices are renewed twice a lap, so bursts of half a queue never pass one.
TEST_F(ShadowDoorbells, AHostIsServedForManyLapsAndNeverAskedToRing) {
  ASSERT_EQ(host.execute_status(config(shadow, event_indices)), status_code::success);
  std::uint16_t id = 0;
  for (const std::uint32_t size : {2U, 3U, 8U, 64U}) {
    const auto entries = static_cast<std::uint16_t>(size);
    host_queue queue = host.make_pair(++id, entries, 3);
    EXPECT_EQ(word(shadow, 2U * queue.id), 0U);
    rings = 0;
    for (unsigned i = 0; i < 1000; ++i) {
      const unsigned burst = 1 + i % (entries / 2U);
      for (unsigned j = 0; j < burst; ++j) {
        place(queue, i);
      }
      rings += ring(2U * queue.id, queue.tail) ? 1U : 0U;
      host.poll(10);
      ASSERT_EQ(take_all(queue), burst) << entries << " entries, burst " << i;
    }
    EXPECT_EQ(rings, 0U) << entries;
    EXPECT_EQ(host.nvme->counters().wrong_doorbells, 0U);
  }
}

TEST_F(ShadowDoorbells, AHostThatFillsItsQueueRingsNowAndThenAndLosesNothing) {
  ASSERT_EQ(host.execute_status(config(shadow, event_indices)), status_code::success);
  host_queue queue = host.make_pair(1, 8, 3);
  for (unsigned i = 0; i < 1000; ++i) {
    const unsigned burst = 1 + i % 7;
    for (unsigned j = 0; j < burst; ++j) {
      place(queue, i);
    }
    rings += ring(2, queue.tail) ? 1U : 0U;
    host.poll(10);
    ASSERT_EQ(take_all(queue), burst) << i;
  }
  EXPECT_LT(rings, 1000U);
}

TEST_F(ShadowDoorbells, AControllerThatSleepsIsRungForTheNextEntryAndOneThatWokeIsNot) {
  ASSERT_EQ(host.execute_status(config(shadow, event_indices)), status_code::success);
  host_queue queue = host.make_pair(1, 8, 3);
  host.poll_patiently();
  for (unsigned i = 0; i < 100; ++i) {
    for (const bool asleep : {true, false}) {
      ASSERT_TRUE(!asleep || host.nvme->arm());
      place(queue, i);
      EXPECT_EQ(ring(2, queue.tail), asleep) << i;
      host.nvme->disarm();
      host.poll();
      ASSERT_EQ(take_all(queue), 1U);
      host.poll_patiently();
    }
  }
}

TEST_F(ShadowDoorbells, AControllerThatSleepsWithoutRoomForAnswersIsRungWhenThereIsSome) {
  ASSERT_EQ(host.execute_status(config(shadow, event_indices)), status_code::success);
  host_queue queue = host.make_pair(1, 8, 3);
  for (unsigned i = 0; i < 9; ++i) {  // the answers to seven fill the queue
    place(queue, i);
    ring(2, queue.tail);
    host.poll();
  }
  host.poll_patiently();
  ASSERT_TRUE(host.nvme->arm());
  rings = 0;
  EXPECT_EQ(take_all(queue), 7U);
  EXPECT_EQ(rings, 1U);
  host.nvme->disarm();
  host.poll();
  EXPECT_EQ(take_all(queue), 2U);
}

TEST_F(ShadowDoorbells, QueuesThatAreOlderGoOnWhereTheyWere) {
  host_queue queue = host.make_pair(1, 8);
  for (int i = 0; i < 5; ++i) {
    place(queue, 1);
  }
  host.ring(queue);
  host.poll();
  EXPECT_TRUE(host.take(queue).has_value());
  ASSERT_EQ(host.execute_status(config(shadow, event_indices)), status_code::success);
  EXPECT_EQ(word(shadow, 2), 5U);
  EXPECT_EQ(word(shadow, 3), 1U);
  EXPECT_EQ(word(event_indices, 2), 4U);
  place(queue, 2);
  host.set_doorbell(2, 7);  // the register is nobody's any more
  ring(2, queue.tail);
  host.poll();
  EXPECT_EQ(take_all(queue), 5U);
  EXPECT_EQ(host.nvme->state().submission_queues[1].head, 6);
}

TEST_F(ShadowDoorbells, PagesThatCannotBeAreRefusedAndChangeNothing) {
  host_queue queue = host.make_pair(1, 8);
  const status_code offset = status_code::prp_offset_invalid;
  const status_code nowhere = status_code::data_transfer_error;
  EXPECT_EQ(host.execute_status(config(shadow + 4, event_indices)), offset);
  EXPECT_EQ(host.execute_status(config(shadow, event_indices + 64)), offset);
  EXPECT_EQ(host.execute_status(config(0x1000, event_indices)), nowhere);
  EXPECT_EQ(host.execute_status(config(shadow, ~std::uint64_t{0xfff})), nowhere);
  place(queue, 1);
  host.ring(queue);
  host.poll();
  EXPECT_TRUE(host.take(queue).has_value());
}

TEST_F(ShadowDoorbells, WildValuesAreIgnoredAndReported) {
  ASSERT_EQ(host.execute_status(config(shadow, event_indices)), status_code::success);
  static_cast<void>(host.make_pair(1, 8));
  for (const std::uint32_t value : {8U, 0xffff'ffffU, 0x1'0001U}) {
    std::memcpy(host.ram.at(shadow + 8), &value, sizeof value);
    host.poll();
  }
  EXPECT_EQ(host.nvme->counters().wrong_doorbells, 3U);
  EXPECT_EQ(host.nvme->state().submission_queues[1].head, 0);
}

TEST_F(ShadowDoorbells, WhileThePagesAreAwayNothingIsServedAndThenItGoesOn) {
  host.ram.remove(*host.ram_region);
  constexpr std::uint64_t before = shadow - fake::memory::base;
  host.ram.add(fake::memory::base, before);
  const region* pages = &host.ram.add(shadow, 0x2000);
  host.nvme->memory_added();
  ASSERT_EQ(host.execute_status(config(shadow, event_indices)), status_code::success);
  host_queue queue = host.make_pair(1, 8, 3);
  for (int lap = 0; lap < 5; ++lap) {
    place(queue, 1);
    ring(2, queue.tail);
    host.poll();
    EXPECT_EQ(take_all(queue), 1U);

    host.ram.remove(*pages);
    host.nvme->memory_leaving();
    ASSERT_TRUE(host.nvme->memory_left());
    place(queue, 2);
    const std::uint32_t tail = queue.tail;  // written to memory that is not the controller's
    std::memcpy(host.ram.at(shadow + 8), &tail, sizeof tail);
    host.ring(queue);
    host.poll();
    EXPECT_FALSE(host.peek(queue).has_value());

    pages = &host.ram.add(shadow, 0x2000);
    host.nvme->memory_added();
    host.poll();
    EXPECT_EQ(take_all(queue), 1U);
  }
}

TEST_F(ShadowDoorbells, AResetGoesBackToTheRegisters) {
  ASSERT_EQ(host.execute_status(config(shadow, event_indices)), status_code::success);
  host.write(nvme::reg::cc, std::uint32_t{0});
  host.poll();
  host.enable();
  host_queue queue = host.make_pair(1, 8);
  place(queue, 1);
  host.ring(queue);
  host.poll();
  EXPECT_TRUE(host.take(queue).has_value());
}

}  // namespace
}  // namespace runnel::target
