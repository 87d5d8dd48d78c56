// Goal: the I/O queues of one controller are spread over cores, and whatever changes under these
// cores (queues, memory, resets) waits until they stand still and what they have in flight has
// ended. Method: the cores of a controller are polled by one thread, in the order of the test.

#include "apps/target/io_core.h"

#include <gtest/gtest.h>

#include <random>

#include "apps/target/fake_driver.h"
#include "apps/target/memory_table.h"

namespace runnel::target {
namespace {

using fake::host_queue;
using fake::machine;
using nvme::io_opcode;
using nvme::status_code;

/// An enabled controller with one core besides its own: queues 1 and 3 are the own core's, 2 and 4
/// the other's.
class IoCore : public testing::Test {
 protected:
  IoCore() {
    host.enable();
    for (std::uint16_t id = 1; id <= 4; ++id) {
      queues.push_back(host.make_pair(id, 16));
    }
  }

  host_queue& queue(std::size_t id) { return queues[id - 1]; }
  void read(std::size_t id, std::uint64_t block = 1) {
    host.submit(queue(id), machine::io(io_opcode::read, block, 1, machine::data));
  }
  bool answered(std::size_t id) { return host.take(queue(id)).has_value(); }
  /// Has commands wait in the disk from here on.
  void hold_commands() {
    host.drive.how = fake::disk::mode::delayed;
    host.drive.may_finish = 0;
  }
  bool stand_still() {
    for (int i = 0; i < 10 && !host.nvme->stand_still(); ++i) {
      host.poll(1);
    }
    return host.nvme->stand_still();
  }

  bool memory_leaves() {
    for (int i = 0; i < 10 && !host.nvme->memory_left(); ++i) {
      host.poll(1);
    }
    return host.nvme->memory_left();
  }

  machine host{{.others = 1}};
  std::vector<host_queue> queues;
};

TEST_F(IoCore, EachQueueIsServedByOneCoreOnly) {
  host.poll();
  for (std::size_t id = 1; id <= 4; ++id) {
    read(id);
  }
  host.others_run = false;
  host.poll();
  EXPECT_TRUE(answered(1));
  EXPECT_FALSE(answered(2));
  EXPECT_TRUE(answered(3));
  EXPECT_FALSE(answered(4));
  host.others[0]->poll(host.clock.now());
  EXPECT_TRUE(answered(2));
  EXPECT_TRUE(answered(4));
  EXPECT_EQ(host.nvme->counters().reads, 2U);
  EXPECT_EQ(host.others[0]->counters().reads, 2U);
}

TEST_F(IoCore, AdminCommandsWaitUntilTheOtherCoreStandsStill) {
  host.poll();
  host.others_run = false;
  nvme::submission_entry order{};
  order.opcode = static_cast<std::uint8_t>(nvme::admin_opcode::abort);
  host.submit(host.admin, order);
  host.poll(100);
  EXPECT_FALSE(host.peek(host.admin).has_value());
  host.others[0]->poll(host.clock.now());
  host.poll();
  EXPECT_TRUE(host.take(host.admin).has_value());
  read(2);
  host.others[0]->poll(host.clock.now());
  EXPECT_TRUE(answered(2));  // it goes on
}

TEST_F(IoCore, ACoreThatStandsStillTouchesNothing) {
  ASSERT_TRUE(stand_still());
  read(2);
  host.others[0]->poll(host.clock.now());
  EXPECT_FALSE(answered(2));
  host.poll();
  EXPECT_TRUE(answered(2));
}

TEST_F(IoCore, AQueueIsDeletedWhenItsCommandsOnTheOtherCoreHaveEnded) {
  hold_commands();
  read(2);
  host.poll();
  host.submit(host.admin, machine::delete_queue(nvme::admin_opcode::delete_io_sq, 2));
  host.poll(20);
  EXPECT_FALSE(host.peek(host.admin).has_value());
  host.drive.how = fake::disk::mode::in_place;
  read(4);
  host.poll();
  EXPECT_TRUE(answered(4));  // its neighbour on that core goes on meanwhile
  host.drive.may_finish = 1;
  host.poll(8);
  EXPECT_TRUE(answered(2));
  EXPECT_TRUE(host.take(host.admin).has_value());
  read(2);
  host.poll();
  EXPECT_FALSE(answered(2));
}

TEST_F(IoCore, ASlowCoreServesItsQueuesWhileItIsAskedAgainAndAgain) {
  hold_commands();
  read(2);
  host.poll();
  host.submit(host.admin, machine::delete_queue(nvme::admin_opcode::delete_io_sq, 2));
  host.drive.how = fake::disk::mode::in_place;
  host.others_run = false;
  read(4);
  for (int turn = 0; turn < 20; ++turn) {
    host.poll(3);  // long enough to have let it go and asked once more
    host.others[0]->poll(host.clock.now());
  }
  EXPECT_TRUE(answered(4));
  EXPECT_FALSE(host.peek(host.admin).has_value());  // that still waits
  host.drive.may_finish = 1;
  host.others_run = true;
  host.poll(8);
  EXPECT_TRUE(host.take(host.admin).has_value());
}

TEST_F(IoCore, DisablingWaitsForTheOtherCore) {
  hold_commands();
  read(2);
  host.poll();
  host.write(nvme::reg::cc, std::uint32_t{0});
  host.poll(20);
  EXPECT_EQ(host.status(), nvme::csts_ready);
  host.drive.may_finish = 1;
  host.poll(8);
  EXPECT_EQ(host.status(), 0U);
  host.enable();
  EXPECT_EQ(host.status(), nvme::csts_ready);
  queues[1] = host.make_pair(2, 16);
  host.drive.how = fake::disk::mode::in_place;
  read(2);
  host.poll();
  EXPECT_TRUE(answered(2));
}

TEST_F(IoCore, APausedControllerTakesNothingOnAnyCore) {
  host.nvme->pause();
  host.poll(8);
  EXPECT_TRUE(host.nvme->quiet());
  for (std::size_t id = 1; id <= 4; ++id) {
    read(id);
  }
  host.poll(8);
  EXPECT_FALSE(answered(1) || answered(2) || answered(3) || answered(4));
  EXPECT_TRUE(host.nvme->quiet());
  host.nvme->resume();
  host.poll(8);
  EXPECT_TRUE(answered(1) && answered(2) && answered(3) && answered(4));
}

TEST_F(IoCore, MemoryLeavesWhenTheOtherCoreHasEndedWhatUsesIt) {
  host.ram.remove(*host.ram_region);
  const region& rings = host.ram.add(fake::memory::base, 0x30'0000);
  const region& pages = host.ram.add(machine::data, 0x10'0000);
  ASSERT_TRUE(stand_still());
  host.nvme->memory_leaving();
  ASSERT_TRUE(memory_leaves());
  hold_commands();
  read(2, 1);
  host.poll();

  ASSERT_TRUE(stand_still());
  host.ram.remove(pages);
  host.nvme->memory_leaving();
  read(2, 2);
  EXPECT_FALSE(memory_leaves());
  const auto refused = host.take(queue(2));
  ASSERT_TRUE(refused.has_value());  // what came later finds nothing there
  EXPECT_EQ(refused->command_id, 2);
  host.drive.may_finish = 1;
  EXPECT_TRUE(memory_leaves());
  EXPECT_EQ(host.take(queue(2))->command_id, 1);
  host.ram.remove(rings);
}

TEST_F(IoCore, InterruptsOfTheOtherCoreAreRaisedByTheControllers) {
  host_queue loud = host.make_pair(6, 16, 3 | 77U << 16U);
  host.poll();
  host.submit(loud, machine::io(io_opcode::read, 1, 1, machine::data));
  host.others[0]->poll(host.clock.now());
  EXPECT_EQ(host.lines.count[77], 0U);
  host.nvme->poll(host.clock.now());
  EXPECT_EQ(host.lines.count[77], 1U);
  host.poll();
  EXPECT_EQ(host.lines.count[77], 1U);
}

TEST_F(IoCore, ThePinFollowsAnswersOfTheOtherCore) {
  host_queue loud = host.make_pair(6, 16, 3);
  unsigned asserted = 0;
  host.lines.on_look = [&] { asserted += host.nvme->pin_asserted() ? 1U : 0U; };
  host.poll();
  EXPECT_FALSE(host.nvme->pin_asserted());
  host.poll(8);
  EXPECT_EQ(asserted, 0U);
  host.submit(loud, machine::io(io_opcode::read, 1, 1, machine::data));
  host.poll();
  EXPECT_FALSE(host.nvme->pin_asserted());  // as far as this core knows
  host.poll(8);
  EXPECT_EQ(asserted, 1U);
}

TEST_F(IoCore, APairOnTheOtherCoreWaitsForThoseOfOtherControllers) {
  host.poll();
  std::atomic<bool>& gate = *host.system.namespaces[0].pair_gate;
  gate.store(true);
  nvme::submission_entry first = machine::io(io_opcode::compare, 5, 1, machine::data);
  first.flags = nvme::fused_first;
  nvme::submission_entry second = machine::io(io_opcode::write, 5, 1, machine::data);
  second.flags = nvme::fused_second;
  host.place(queue(2), first);
  host.submit(queue(2), second);
  host.poll();
  EXPECT_FALSE(answered(2));
  gate.store(false);
  host.poll();
  EXPECT_TRUE(answered(2) && answered(2));
  EXPECT_FALSE(gate.load());
}

TEST_F(IoCore, WrongDoorbellsOnTheOtherCoreAreReported) {
  nvme::submission_entry wish{};
  wish.opcode = static_cast<std::uint8_t>(nvme::admin_opcode::async_event_request);
  host.submit(host.admin, wish);
  host.poll(8);
  EXPECT_FALSE(host.peek(host.admin).has_value());
  host.set_doorbell(4, 999);  // the tail of queue 2
  host.poll(8);
  EXPECT_TRUE(host.take(host.admin).has_value());
}

TEST_F(IoCore, ErrorsOfTheOtherCoreAreInTheLog) {
  for (const unsigned id : {1U, 2U}) {
    host.submit(queue(id), machine::io(io_opcode::read, 5000, 1, machine::data));
    host.poll();
  }
  ASSERT_TRUE(stand_still());
  const error_state& log = host.nvme->state().errors;
  ASSERT_EQ(log.count, 2U);
  EXPECT_EQ(log.entries[0].sq_id, 1);
  EXPECT_EQ(log.entries[1].sq_id, 2);
  EXPECT_EQ(log.entries[1].error_count, 2U);
}

TEST_F(IoCore, OneControllerFollowsAnotherOnTheSameCores) {
  read(2);
  host.poll();
  host.nvme->pause();
  for (int i = 0; i < 8 && !host.nvme->quiet(); ++i) {
    host.poll(1);
  }
  ASSERT_TRUE(host.nvme->quiet());
  host.restart();
  host.enable();
  queues[1] = host.make_pair(2, 16);
  read(2);
  host.poll();
  EXPECT_TRUE(answered(2));
  EXPECT_EQ(host.others[0]->counters().reads, 2U);
}

TEST(IoCores, SurviveAHostThatDoesAnythingAnyTimeOnThreeCores) {
  std::mt19937_64 random{78};  // fixed seed
  machine host{{.others = 2}};
  constexpr auto working = nvme::enabled_configuration(4096);
  for (int i = 0; i < 100'000; ++i) {
    const std::uint64_t value = random() % 3 == 0 ? working : random() % 64;
    const std::size_t width = std::size_t{1} << random() % 4;
    const std::size_t offset = random() % 4 == 0 ? 0x1000 + random() % 0x400 : random() % 0x48;
    switch (random() % 16) {
      case 0:
        host.nvme->write_register(offset, std::as_bytes(std::span{&value, 1}).first(width));
        break;
      case 1:
        host.set_admin_registers();
        break;
      case 2:
        host.nvme->pause();
        break;
      case 3:
        host.nvme->resume();
        break;
      case 4:
        if (host.nvme->quiet()) {
          host.nvme->reset();
        }
        break;
      case 5:
        host.enable();
        break;
      case 6: {
        const auto id = static_cast<std::uint16_t>(1 + random() % 6);
        host.submit(host.admin, machine::create_cq(id, 8, machine::io_cq + id * 0x4000U, 3));
        host.submit(host.admin, machine::create_sq(id, 8, machine::io_sq + id * 0x1'0000U, id));
        break;
      }
      case 7:
        static_cast<void>(host.nvme->pin_asserted());
        break;
      case 8:
        host.drive.how = random() % 2 == 0 ? fake::disk::mode::delayed : fake::disk::mode::in_place;
        host.drive.may_finish = random() % 32;
        break;
      default:
        host.others[random() % 2]->poll(host.clock.now());
        host.nvme->poll(host.clock.now());
        break;
    }
  }
  host.drive.may_finish = 1U << 20U;
  host.nvme->pause();
  for (int i = 0; i < 100 && !host.nvme->quiet(); ++i) {
    host.poll(1);
  }
  ASSERT_TRUE(host.nvme->quiet());
  host.nvme->reset();
  host.nvme->resume();
  host.drive.how = fake::disk::mode::in_place;
  host.enable();
  EXPECT_EQ(host.status(), nvme::csts_ready);
  host_queue last = host.make_pair(2, 8);
  host.submit(last, machine::io(io_opcode::read, 1, 1, machine::data));
  host.poll();
  EXPECT_TRUE(host.take(last).has_value());
}

TEST(MemoryTable, FindsWhatWasAddedAndSpansWhatAdjoins) {
  std::vector<std::byte> bytes(0x3000);
  const region low{.address = bytes.data(), .length = 0x1000, .permissions = access::read_write};
  const region high{
      .address = bytes.data() + 0x1000, .length = 0x2000, .permissions = access::read};
  memory_table table;
  table.add(iova{0x9000}, high);
  table.add(iova{0x8000}, low);

  EXPECT_EQ(table.run_at(iova{0x7fff}, access::read).address, nullptr);
  EXPECT_EQ(table.run_at(iova{0x8010}, access::write).address, bytes.data() + 0x10);
  EXPECT_EQ(table.run_at(iova{0x8010}, access::write).bytes, 0xff0U);
  EXPECT_EQ(table.run_at(iova{0x9000}, access::write).address, nullptr);
  EXPECT_EQ(table.run_at(iova{0xafff}, access::read).bytes, 1U);
  EXPECT_EQ(table.run_at(iova{0xb000}, access::read).address, nullptr);
  EXPECT_EQ(table.resolve(iova{0x8ff0}, 0x20, access::read), bytes.data() + 0xff0);
  EXPECT_EQ(table.resolve(iova{0x8ff0}, 0x20, access::write), nullptr);

  table.remove(low);
  EXPECT_EQ(table.run_at(iova{0x8010}, access::read).address, nullptr);
  EXPECT_EQ(table.resolve(iova{0x9000}, 0x2000, access::read), bytes.data() + 0x1000);
}

}  // namespace
}  // namespace runnel::target
