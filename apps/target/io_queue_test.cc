// Goal: commands move the right bytes, wrong ones are refused with the right status, and a host
// that breaks the rules of the rings hurts only itself.
// Method: a fake host and a fake disk that answers in place, late, or refuses; both block sizes.

#include <gtest/gtest.h>

#include <random>
#include <vector>

#include "apps/target/fake_driver.h"

namespace runnel::target {
namespace {

using fake::code;
using fake::host_queue;
using fake::machine;
using nvme::io_opcode;
using nvme::status_code;
using namespace std::chrono_literals;

class IoQueue : public testing::TestWithParam<std::uint32_t> {
 protected:
  IoQueue() : host{{.block_bytes = GetParam(), .block_count = 1024}} {
    host.enable();
    queue = host.make_pair(1, 64);
  }
  std::uint32_t block_bytes() const { return GetParam(); }

  machine host;
  host_queue queue;
};
INSTANTIATE_TEST_SUITE_P(BlockBytes, IoQueue, testing::Values(512, 4096));

TEST_P(IoQueue, WritesArriveAndReadsReturnThem) {
  const std::uint32_t bytes = 3 * block_bytes();
  for (std::uint32_t i = 0; i < bytes; ++i) {
    host.ram.at(machine::data)[i] = std::byte{static_cast<std::uint8_t>(i * 7)};
  }
  const std::uint64_t list = machine::data + 0x8'0000;
  const std::uint64_t pages[] = {machine::data + 0x1000, machine::data + 0x2000};
  std::memcpy(host.ram.at(list), pages, sizeof pages);
  const std::uint64_t prp2 = bytes > 8192 ? list : machine::data + 0x1000;
  host.submit(queue, machine::io(io_opcode::write, 9, 3, machine::data, prp2));
  host.poll();
  EXPECT_EQ(code(host.take(queue)), status_code::success);
  EXPECT_EQ(std::memcmp(host.drive.content(9), host.ram.at(machine::data), bytes), 0);

  host.submit(queue, machine::io(io_opcode::read, 10, 1, machine::data + 0x4'0000));
  host.poll();
  EXPECT_EQ(code(host.take(queue)), status_code::success);
  EXPECT_EQ(
      std::memcmp(host.ram.at(machine::data + 0x4'0000), host.drive.content(10), block_bytes()), 0);
}

TEST_P(IoQueue, CommandsThatCannotBeDoneAreRefusedForGood) {
  const std::uint64_t count = 1024;
  const auto with = [](nvme::submission_entry command, auto change) {
    change(command);
    return command;
  };
  const nvme::submission_entry good = machine::io(io_opcode::read, 0, 1, machine::data);
  struct row {
    const char* what;
    nvme::submission_entry command;
    status_code expected;
  };
  const std::uint32_t too_many = 128 * 1024 / block_bytes() + 1;
  for (const row& each : {
           row{"no namespace", with(good, [](auto& c) { c.nsid = 0; }),
               status_code::invalid_namespace_or_format},
           row{"a namespace that is not there", with(good, [](auto& c) { c.nsid = 2; }),
               status_code::invalid_namespace_or_format},
           row{"all namespaces", with(good, [](auto& c) { c.nsid = nvme::nsid_all; }),
               status_code::invalid_namespace_or_format},
           row{"an unknown opcode", with(good, [](auto& c) { c.opcode = 0x7f; }),
               status_code::invalid_opcode},
           row{"half of a pair", with(good, [](auto& c) { c.flags = 1; }),
               status_code::fused_missing},
           row{"an SGL", with(good, [](auto& c) { c.flags = 0x40; }), status_code::invalid_field},
           row{"the block after the last", machine::io(io_opcode::read, count, 1, machine::data),
               status_code::lba_out_of_range},
           row{"a range that ends outside",
               machine::io(io_opcode::read, count - 1, 2, machine::data),
               status_code::lba_out_of_range},
           row{"a range that wraps",
               machine::io(io_opcode::write, ~std::uint64_t{0}, 2, machine::data),
               status_code::lba_out_of_range},
           row{"more than MDTS", machine::io(io_opcode::read, 0, too_many, machine::data),
               status_code::invalid_field},
           row{"memory nowhere", machine::io(io_opcode::read, 0, 1, 0x1000),
               status_code::data_transfer_error},
           row{"an odd address", machine::io(io_opcode::read, 0, 1, machine::data + 1),
               status_code::prp_offset_invalid},
       }) {
    host.submit(queue, each.command);
    host.poll();
    const auto answer = host.take(queue);
    EXPECT_EQ(code(answer), each.expected) << each.what;
    EXPECT_NE(answer->status_and_phase & nvme::completion_do_not_retry, 0) << each.what;
  }
}

TEST_P(IoQueue, GoodAndBadCommandsInOneBurstAreAnsweredInOrder) {
  for (std::uint16_t i = 0; i < 16; ++i) {
    nvme::submission_entry command = machine::io(io_opcode::read, i, 1, machine::data);
    command.nsid = i % 3 == 1 ? 9 : 1;
    command.command_id = i;
    host.place(queue, command);
  }
  host.ring(queue);
  host.poll();
  for (std::uint16_t i = 0; i < 16; ++i) {
    const auto answer = host.take(queue);
    ASSERT_TRUE(answer.has_value());
    EXPECT_EQ(answer->command_id, i);
    EXPECT_EQ(answer->sq_id, 1);
    EXPECT_EQ(code(answer),
              i % 3 == 1 ? status_code::invalid_namespace_or_format : status_code::success);
  }
}

TEST_P(IoQueue, FlushAndForcedWritesReachTheDevice) {
  host.submit(queue, machine::io(io_opcode::flush, 0, 1, 0));
  nvme::submission_entry forced = machine::io(io_opcode::write, 1, 1, machine::data);
  forced.cdw12 |= nvme::io_force_unit_access;
  host.submit(queue, forced);
  host.poll();
  EXPECT_EQ(code(host.take(queue)), status_code::success);
  EXPECT_EQ(code(host.take(queue)), status_code::success);
  EXPECT_EQ(host.drive.flushes, 1U);
  EXPECT_EQ(host.drive.forced_writes, 1U);
}

TEST_P(IoQueue, TheStatusOfTheDeviceIsTheStatusOfTheCommand) {
  host.drive.status = block_status::unrecovered_read_error;
  for (const auto how : {fake::disk::mode::in_place, fake::disk::mode::delayed}) {
    host.drive.how = how;
    host.submit(queue, machine::io(io_opcode::read, 0, 1, machine::data));
    host.poll();
    const auto answer = host.take(queue);
    EXPECT_EQ(code(answer), status_code::unrecovered_read_error);
    EXPECT_EQ(answer->status_and_phase & nvme::completion_do_not_retry, 0);
  }
}

TEST_P(IoQueue, ADeviceWithoutRoomDelaysCommandsAndLosesNone) {
  host.drive.how = fake::disk::mode::delayed;
  host.drive.room = 5;
  host.drive.may_finish = 0;
  for (std::uint16_t i = 0; i < 12; ++i) {
    host.submit(queue, machine::io(io_opcode::read, i, 1, machine::data));
  }
  host.poll();
  EXPECT_EQ(host.drive.waiting(), 5U);
  EXPECT_EQ(host.nvme->state().submission_queues[1].head, 5);
  EXPECT_GT(host.nvme->counters().refused, 0U);
  host.drive.may_finish = 1024;
  host.drive.room = 1024;
  host.poll();
  for (std::uint16_t i = 0; i < 12; ++i) {
    const auto answer = host.take(queue);
    ASSERT_TRUE(answer.has_value()) << i;
    EXPECT_EQ(answer->command_id, i);
  }
}

TEST_P(IoQueue, AWrongCommandBehindARefusedOneIsAnsweredOnce) {
  host.drive.room = 0;
  host.place(queue, machine::io(io_opcode::read, 1, 1, machine::data));
  nvme::submission_entry wrong = machine::io(io_opcode::read, 2, 1, machine::data);
  wrong.opcode = 0x7f;
  host.place(queue, wrong);
  host.ring(queue);
  host.poll();
  EXPECT_FALSE(host.peek(queue).has_value());
  host.drive.room = 1;
  host.poll();
  EXPECT_EQ(host.take(queue)->command_id, 1);
  EXPECT_EQ(host.take(queue)->command_id, 2);
  EXPECT_FALSE(host.take(queue).has_value());
}

TEST_P(IoQueue, AHostThatDoesNotReadItsAnswersIsNotOverrun) {
  host_queue narrow{.id = 2,
                    .entries = 64,
                    .submission = machine::io_sq + 0x2'0000,
                    .completion = machine::io_cq + 0x8000};
  EXPECT_EQ(host.execute_status(machine::create_cq(2, 4, narrow.completion)), status_code::success);
  EXPECT_EQ(host.execute_status(machine::create_sq(2, 64, narrow.submission, 2)),
            status_code::success);
  for (const auto how : {fake::disk::mode::in_place, fake::disk::mode::delayed}) {
    host.drive.how = how;
    for (std::uint16_t i = 0; i < 20; ++i) {
      host.submit(narrow, machine::io(io_opcode::read, i, 1, machine::data));
    }
    host_queue reader = narrow;
    reader.entries = 4;
    for (std::uint16_t i = 0; i < 20; ++i) {
      host.poll(8);
      const auto answer = host.take(reader);
      ASSERT_TRUE(answer.has_value()) << i;
      EXPECT_EQ(answer->command_id, i);
    }
    narrow.head = reader.head;
    narrow.phase = reader.phase;
  }
}

TEST_P(IoQueue, RingsWrapManyTimes) {
  std::mt19937 random{5};  // fixed seed
  std::uint32_t sent = 0;
  std::uint32_t received = 0;
  while (received < 2000) {
    for (auto i = static_cast<std::uint32_t>(random() % 20); i > 0 && sent - received < 60;
         --i, ++sent) {
      nvme::submission_entry command = machine::io(io_opcode::read, sent % 1024, 1, machine::data);
      command.command_id = static_cast<std::uint16_t>(sent);
      host.submit(queue, command);
    }
    host.drive.room = 1024;
    host.drive.may_finish = 1024;
    host.drive.how = random() % 2 == 0 ? fake::disk::mode::in_place : fake::disk::mode::delayed;
    host.poll(2);
    host.drive.how = fake::disk::mode::in_place;
    host.poll(1);
    while (host.take(queue)) {
      ++received;
    }
  }
  EXPECT_EQ(host.nvme->counters().errors, 0U);
}

TEST_P(IoQueue, SeveralSubmissionQueuesMayShareACompletionQueue) {
  host_queue second{.id = 2, .entries = 16, .submission = machine::io_sq + 0x2'0000};
  EXPECT_EQ(host.execute_status(machine::create_sq(2, 16, second.submission, 1)),
            status_code::success);
  host.drive.how = fake::disk::mode::delayed;
  host.submit(queue, machine::io(io_opcode::read, 1, 1, machine::data));
  host.submit(second, machine::io(io_opcode::read, 2, 1, machine::data));
  host.poll();
  EXPECT_EQ(host.take(queue)->sq_id, 1);
  EXPECT_EQ(host.take(queue)->sq_id, 2);
}

TEST_P(IoQueue, ADoorbellOutOfRangeIsIgnoredAndReportedOnce) {
  nvme::submission_entry event{};
  event.opcode = static_cast<std::uint8_t>(nvme::admin_opcode::async_event_request);
  EXPECT_FALSE(host.execute(event).has_value());
  for (const std::uint32_t value : {64U, 0x1'0001U, 0xffff'ffffU}) {
    host.set_doorbell(2, value);
    host.poll();
  }
  EXPECT_EQ(host.nvme->state().submission_queues[1].head, 0);
  const auto told = host.take(host.admin);
  ASSERT_TRUE(told.has_value());
  EXPECT_EQ(static_cast<std::uint32_t>(told->command_specific) & 0xffffU, 0x0100U);
  EXPECT_EQ(host.nvme->counters().wrong_doorbells, 3U);

  host.submit(queue, machine::io(io_opcode::read, 1, 1, machine::data));
  host.poll();
  EXPECT_EQ(code(host.take(queue)), status_code::success);  // and goes on with a good value
}

/// A completion queue that interrupts, and its host's side.
struct interrupting_queue {
  explicit interrupting_queue(std::uint16_t entries)
      : state{.base = iova{fake::memory::base}, .entries = entries, .interrupts = 1} {
    memory.add(fake::memory::base, page_bytes);
    queue.bind(state, head.data());
    queue.open();
    queue.find(memory);
  }
  void read_up_to(std::uint32_t index) { mmio_write(head.data(), index); }
  /// The next turn, 1 us later.
  bool due() { return queue.interrupt_due(now += 1us, wrong); }
  /// Posts one entry. @return after how many turns the host is interrupted, 0: not within 200
  unsigned turns_to_interrupt() {
    queue.post({});
    for (unsigned turn = 1; turn <= 200; ++turn) {
      if (due()) {
        return turn;
      }
    }
    return 0;
  }
  /// Posts an entry that the host reads by itself, before our patience ends.
  void poll_once() {
    queue.post({});
    EXPECT_FALSE(due());
    read_up_to(state.tail);
    for (unsigned turn = 0; turn < 30; ++turn) {
      EXPECT_FALSE(due());
    }
    EXPECT_FALSE(queue.interrupt_open());
  }

  fake::memory memory{page_bytes};
  alignas(4) std::array<std::byte, 4> head{};
  completion_queue_state state;
  completion_queue queue;
  instant now{};
  std::uint64_t wrong = 0;
};

TEST(CompletionQueue, AWholeLapWithinOneTurnIsStillTold) {
  interrupting_queue on{4};
  for (unsigned posted = 0; posted < 4; ++posted) {
    on.read_up_to(posted / 2);  // the host reads meanwhile
    on.queue.post({});
  }
  ASSERT_EQ(on.state.tail, 0);
  static_cast<void>(on.due());  // it is reading: not now
  EXPECT_TRUE(on.due());        // it has stopped short of the tail
  EXPECT_FALSE(on.due());
}

TEST(CompletionQueue, AHostThatPollsIsFoundOutAndInterruptedNoMoreUntilItSleeps) {
  interrupting_queue on{8};
  EXPECT_EQ(on.turns_to_interrupt(), 1U);
  on.read_up_to(on.state.tail);
  for (unsigned i = 0; i < 100; ++i) {
    on.poll_once();
  }
  EXPECT_EQ(on.turns_to_interrupt(), 21U);  // 20 us: it has gone to sleep
  on.read_up_to(on.state.tail);
  EXPECT_EQ(on.turns_to_interrupt(), 1U);
}

TEST(CompletionQueue, WhetherAHostThatSleepsPollsByNowIsTriedLessAndLessOften) {
  interrupting_queue on{8};
  const auto interrupts_until_trial = [&on] {
    for (unsigned count = 0;; ++count) {
      const unsigned turns = on.turns_to_interrupt();
      on.read_up_to(on.state.tail);
      if (turns != 1) {
        EXPECT_EQ(turns, 21U);
        return count;
      }
    }
  };
  for (const unsigned expected : {1U, 1U, 2U, 4U, 8U, 16U, 32U, 64U, 128U, 128U}) {
    EXPECT_EQ(interrupts_until_trial(), expected);
  }
  for (unsigned i = 0; i < 128; ++i) {
    EXPECT_EQ(on.turns_to_interrupt(), 1U);
    on.read_up_to(on.state.tail);
  }
  on.poll_once();  // it does
  EXPECT_EQ(interrupts_until_trial(), 0U);
  EXPECT_EQ(interrupts_until_trial(), 1U);
}

TEST(CompletionQueue, AHostThatPollsAndIsSlowIsNotInterrupted) {
  interrupting_queue on{64};
  EXPECT_EQ(on.turns_to_interrupt(), 1U);
  on.read_up_to(on.state.tail);
  for (std::uint32_t i = 0; i < 100; ++i) {  // one behind, all the time
    on.queue.post({});
    on.read_up_to((on.state.tail + 63U) % 64U);
    for (unsigned turn = 0; turn < 19; ++turn) {
      EXPECT_FALSE(on.due());
    }
  }
}

TEST_P(IoQueue, AWrongHeadDoorbellDoesNotFreeEntries) {
  for (std::uint16_t i = 0; i < 60; ++i) {
    host.submit(queue, machine::io(io_opcode::read, i, 1, machine::data));
  }
  host.poll(20);
  host.set_doorbell(3, 64);
  for (std::uint16_t i = 60; i < 90; ++i) {
    host.submit(queue, machine::io(io_opcode::read, i, 1, machine::data));
    host.poll(1);
  }
  EXPECT_EQ(host.nvme->state().completion_queues[1].tail, 63);  // full, and not beyond
}

TEST_P(IoQueue, CommandsAreCountedAndPublishedHoweverTheyFinish) {
  for (const auto how : {fake::disk::mode::delayed, fake::disk::mode::in_place}) {
    host.drive.how = how;
    host.submit(queue, machine::io(io_opcode::write, 1, 1, machine::data));
    host.poll();
  }
  EXPECT_EQ(host.nvme->counters().writes, 2U);
  EXPECT_EQ(host.nvme->counters().bytes_written, 2 * block_bytes());
  EXPECT_GT(host.drive.publications, 0U);
}

TEST_P(IoQueue, ABurstForSeveralNamespacesGoesToEach) {
  fake::disk other{block_bytes(), 64};
  host.system.namespaces.push_back({&other, {}});
  host.paths.push_back({.queue = std::move(*other.make_queue(8)),
                        .block_count = 64,
                        .block_shift = host.paths[0].block_shift});
  host.nvme.emplace(host.system, controller_options{},
                    controller_ports{.memory = &host.ram,
                                     .interrupts = &host.lines,
                                     .paths = host.paths,
                                     .doorbells = host.doorbells()});
  host.enable();
  queue = host.make_pair(1, 64);
  other.how = fake::disk::mode::delayed;
  for (std::uint16_t i = 0; i < 12; ++i) {
    nvme::submission_entry command = machine::io(io_opcode::write, i, 1, machine::data);
    command.nsid = 1 + i % 2;
    host.submit(queue, command);
  }
  host.poll(16);
  std::vector<bool> seen(12);
  while (const auto answer = host.take(queue)) {
    EXPECT_EQ(code(answer), status_code::success);
    seen[answer->command_id] = true;
  }
  EXPECT_EQ(std::ranges::count(seen, true), 12);
}

TEST_P(IoQueue, CommandsOfRandomBytesNeverLeaveTheHostsMemory) {
  std::mt19937_64 random{4711};  // fixed seed
  const auto page = [&] {
    return random() % 16 == 0 ? random() : machine::data + random() % 256 * page_bytes;
  };
  for (std::uint64_t offset = 0; offset < 0x8'0000; offset += 8) {  // every page may be a list
    const std::uint64_t entry = page();
    std::memcpy(host.ram.at(machine::data + offset), &entry, sizeof entry);
    std::memcpy(host.drive.content(0) + offset, &entry, sizeof entry);
  }
  const std::uint64_t blocks_max = 140 * 1024 / block_bytes();
  for (unsigned i = 0; i < 20'000; ++i) {
    nvme::submission_entry command = machine::io(
        io_opcode::read, random() % 1024,
        static_cast<std::uint32_t>(1U + random() % blocks_max % (1U + i % 64U)), page());
    command.opcode = static_cast<std::uint8_t>(random() % 4);
    command.flags = random() % 16 == 0 ? 0x40 : 0;
    command.prp1 += random() % 4096 & (random() % 16 == 0 ? 0xfffU : 0xffcU);
    command.prp2 = page();
    host.drive.room = 1;
    host.submit(queue, command);
    host.poll(1);
    while (host.take(queue)) {
    }
  }
  const io_counters& seen = host.nvme->counters();
  EXPECT_EQ(seen.reads + seen.writes + seen.errors + host.drive.flushes, 20'000U);
  EXPECT_GT(seen.writes, 100U);  // not all of them were wrong
}

}  // namespace
}  // namespace runnel::target
