// Goal: the controller keeps the promises of its registers whatever order they are written in, and
// everything that has to wait for commands in flight waits, and ends.
// Method: a fake host drives it directly; a fake disk finishes commands when the test says so.

#include "apps/target/controller.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

#include "apps/target/fake_driver.h"

namespace runnel::target {
namespace {

using fake::code;
using fake::machine;
using nvme::io_opcode;
using nvme::reg;
using nvme::status_code;

constexpr std::uint32_t working_cc = nvme::enabled_configuration(4096);

TEST(Controller, TellsItsCapabilitiesInAnyWidth) {
  const machine host;
  const auto cap = host.read<std::uint64_t>(0);
  EXPECT_EQ(cap & 0xffff, 1023U);
  EXPECT_NE(cap >> 16U & 1U, 0U);  // contiguous queues required
  EXPECT_EQ(host.read<std::uint32_t>(4), cap >> 32U);
  EXPECT_EQ(host.read<std::uint16_t>(6), cap >> 48U);
  EXPECT_EQ(host.read<std::uint8_t>(2), cap >> 16U & 0xffU);
  EXPECT_EQ(host.read<std::uint32_t>(8), 0x00020000U);
  EXPECT_EQ(host.read<std::uint64_t>(0x7f8), 0U);
}

TEST(Controller, TakesQueueAddressesInHalvesAndBytes) {
  machine host;
  const std::uint64_t address = machine::admin_sq;
  for (std::size_t i = 0; i < 8; ++i) {
    const auto byte = static_cast<std::uint8_t>(address >> 8 * i);
    host.nvme->write_register(0x28 + i, std::as_bytes(std::span{&byte, 1}));
  }
  EXPECT_EQ(host.read<std::uint64_t>(0x28), address);
  const auto half = static_cast<std::uint32_t>(machine::admin_cq >> 32U);
  host.nvme->write_register(0x34, std::as_bytes(std::span{&half, 1}));
  EXPECT_EQ(host.read<std::uint32_t>(0x34), half);
}

TEST(Controller, BecomesReadyWithAdminQueuesInMemory) {
  machine host;
  host.enable();
  EXPECT_EQ(host.status(), nvme::csts_ready);
}

TEST(Controller, RefusesConfigurationsThatItDoesNotOffer) {
  struct row {
    const char* what;
    std::uint32_t cc;
    std::uint32_t aqa;
    std::uint64_t asq;
  };
  const std::uint32_t aqa = nvme::admin_queue_attributes(16, 16);
  for (const row& each : {
           row{"pages of 8 KiB", nvme::enabled_configuration(8192), aqa, machine::admin_sq},
           row{"another command set", working_cc | 1U << 4U, aqa, machine::admin_sq},
           row{"weighted arbitration", working_cc | 1U << 11U, aqa, machine::admin_sq},
           row{"entries of 128 bytes", working_cc | 1U << 16U, aqa, machine::admin_sq},
           row{"completions of 32 bytes", working_cc | 1U << 20U, aqa, machine::admin_sq},
           row{"a queue of one entry", working_cc, aqa & ~0xfffU, machine::admin_sq},
           row{"a queue nowhere", working_cc, aqa, 0x1000},
           row{"a queue that ends beyond memory", working_cc,
               nvme::admin_queue_attributes(4096, 16),
               fake::memory::base + machine::ram_bytes - 4096},
       }) {
    machine host;
    host.write(reg::aqa, each.aqa);
    host.write(reg::asq, each.asq);
    host.write(reg::acq, machine::admin_cq);
    host.write(reg::cc, each.cc);
    EXPECT_EQ(host.status(), nvme::csts_fatal) << each.what;
    host.write(reg::cc, std::uint32_t{0});
    EXPECT_EQ(host.status(), 0U) << each.what;
    host.enable();
    EXPECT_EQ(host.status(), nvme::csts_ready) << each.what;
  }
}

// Memory that only the host sees as it wrote it: to us the command that it rings for is all zero.
TEST(Controller, AFirstCommandThatNobodyWroteIsFatalForGood) {
  machine host;
  host.enable();
  host.set_doorbell(0, 1);
  host.poll();
  EXPECT_EQ(host.status(), nvme::csts_ready | nvme::csts_fatal);
  EXPECT_EQ(host.nvme->state().completion_queues[0].tail, 0);
  host.write(reg::cc, std::uint32_t{0});
  EXPECT_EQ(host.status(), 0U);
  host.enable();
  EXPECT_EQ(host.status(), nvme::csts_fatal);
}

TEST(Controller, ALaterCommandOfZeroesIsOnlyRefused) {
  machine host;
  host.enable();
  host.make_pair(1, 8);
  host.submit(host.admin, {});  // the deletion of queue 0
  host.poll();
  EXPECT_EQ(code(host.take(host.admin)), status_code::invalid_queue_id);
  EXPECT_EQ(host.status(), nvme::csts_ready);
}

TEST(Controller, QueueEntrySizesMayBeSetBeforeEnabling) {
  machine host;
  host.set_admin_registers();
  host.write(reg::cc, working_cc & ~nvme::cc_enable);
  EXPECT_EQ(host.status(), 0U);
  host.write(reg::cc, working_cc);
  EXPECT_EQ(host.status(), nvme::csts_ready);
}

TEST(Controller, DisablingForgetsQueuesButNotTheAdminRegisters) {
  machine host;
  host.enable();
  host.make_pair(1, 8);
  host.write(reg::cc, std::uint32_t{0});
  EXPECT_EQ(host.status(), 0U);
  EXPECT_EQ(host.read<std::uint64_t>(0x28), machine::admin_sq);
  EXPECT_EQ(host.nvme->state().submission_queues[1].entries, 0);
  host.enable();
  host.make_pair(1, 8);  // its number is free again
}

TEST(Controller, StaysReadyUntilTheLastCommandInFlightHasEnded) {
  machine host;
  host.enable();
  fake::host_queue queue = host.make_pair(1, 8);
  host.drive.how = fake::disk::mode::delayed;
  host.drive.may_finish = 0;
  host.submit(queue, machine::io(io_opcode::read, 3, 1, machine::data));
  host.poll();
  host.write(reg::cc, std::uint32_t{0});
  host.poll();
  EXPECT_EQ(host.status(), nvme::csts_ready);
  host.drive.may_finish = 1;
  host.poll();
  EXPECT_EQ(host.status(), 0U);
}

TEST(Controller, EnablingWhileItIsStillDisablingTakesEffectAfterwards) {
  machine host;
  host.enable();
  fake::host_queue queue = host.make_pair(1, 8);
  host.drive.how = fake::disk::mode::delayed;
  host.drive.may_finish = 0;
  host.submit(queue, machine::io(io_opcode::read, 3, 1, machine::data));
  host.poll();
  host.write(reg::cc, std::uint32_t{0});
  host.enable();
  EXPECT_EQ(host.nvme->state().submission_queues[1].entries, 8);  // still the old life
  host.drive.may_finish = 1;
  host.poll();
  EXPECT_EQ(host.status(), nvme::csts_ready);
  EXPECT_EQ(host.nvme->state().submission_queues[1].entries, 0);
}

TEST(Controller, ShutdownEndsCommandsThenFlushesThenSaysSo) {
  machine host;
  host.enable();
  fake::host_queue queue = host.make_pair(1, 8);
  host.drive.how = fake::disk::mode::delayed;
  host.drive.may_finish = 0;
  host.submit(queue, machine::io(io_opcode::write, 3, 1, machine::data));
  host.poll();
  host.write(reg::cc, working_cc | nvme::cc_shutdown_normal);
  host.poll();
  EXPECT_EQ(host.status() & nvme::csts_shutdown_mask, nvme::csts_shutdown_occurring);
  EXPECT_EQ(host.drive.flushes, 0U);
  host.drive.may_finish = 1;
  host.poll();
  EXPECT_EQ(code(host.take(queue)), status_code::success);
  EXPECT_EQ(host.drive.flushes, 1U);
  EXPECT_EQ(host.status() & nvme::csts_shutdown_mask, nvme::csts_shutdown_occurring);
  host.drive.may_finish = 1;
  EXPECT_FALSE(host.paths[0].idle());
  host.poll();
  EXPECT_EQ(host.status() & nvme::csts_shutdown_mask, nvme::csts_shutdown_complete);

  host.submit(queue, machine::io(io_opcode::write, 4, 1, machine::data));
  host.poll();
  EXPECT_FALSE(host.take(queue).has_value());  // nothing is taken after a shutdown
}

TEST(Controller, DisablingDuringTheFlushOfAShutdownWaitsForItAndEnds) {
  machine host;
  host.enable();
  host.drive.how = fake::disk::mode::delayed;
  host.drive.may_finish = 0;
  host.write(reg::cc, working_cc | nvme::cc_shutdown_normal);
  host.poll();
  EXPECT_EQ(host.drive.flushes, 1U);
  host.write(reg::cc, std::uint32_t{0});
  host.poll();
  EXPECT_FALSE(host.nvme->quiet());
  host.drive.may_finish = 1;
  host.poll();
  EXPECT_EQ(host.status(), 0U);
}

TEST(Controller, ShutdownOfADisabledControllerCompletes) {
  machine host;
  host.write(reg::cc, nvme::cc_shutdown_normal);
  host.poll();
  EXPECT_EQ(host.status() & nvme::csts_shutdown_mask, nvme::csts_shutdown_complete);
  host.write(reg::cc, std::uint32_t{0});
  host.enable();
  EXPECT_EQ(host.status(), nvme::csts_ready);
}

TEST(Controller, PausedItTakesNothingAndResumedItGoesOn) {
  machine host;
  host.enable();
  fake::host_queue queue = host.make_pair(1, 8);
  host.nvme->pause();
  host.submit(queue, machine::io(io_opcode::read, 3, 1, machine::data));
  host.poll();
  EXPECT_FALSE(host.take(queue).has_value());
  host.nvme->resume();
  host.poll();
  EXPECT_EQ(code(host.take(queue)), status_code::success);
}

TEST(Controller, ResetIsAsAfterPowerOn) {
  machine host;
  const controller_state fresh = host.nvme->state();
  host.enable();
  host.make_pair(1, 8);
  host.nvme->reset();
  EXPECT_EQ(std::memcmp(&host.nvme->state().registers, &fresh.registers, sizeof fresh.registers),
            0);
  EXPECT_EQ(host.nvme->state().submission_queues[1].entries, 0);
  EXPECT_EQ(host.nvme->state().io_queues, fresh.io_queues);
}

TEST(Controller, LiveQueuesSurviveThatAllMemoryLeavesAndReturns) {
  machine host;
  host.enable();
  fake::host_queue queue = host.make_pair(1, 8);
  for (std::uint64_t round = 0; round < 4; ++round) {
    host.ram.remove(*host.ram_region);
    host.nvme->memory_leaving();
    host.poll();
    EXPECT_TRUE(host.nvme->memory_left());
    host.submit(queue, machine::io(io_opcode::read, round, 1, machine::data));
    host.poll();
    EXPECT_EQ(host.status(), nvme::csts_ready);
    EXPECT_FALSE(host.peek(queue).has_value());  // out of reach: not even looked at

    host.ram_region = &host.ram.add(fake::memory::base, machine::ram_bytes);
    host.nvme->memory_added();
    host.poll();
    EXPECT_EQ(code(host.take(queue)), status_code::success) << round;
  }
}

TEST(Controller, MemoryLeavesOnlyWhenNoCommandThatWasTakenBeforeIsInFlight) {
  machine host;
  host.ram.remove(*host.ram_region);
  const region& queues = host.ram.add(fake::memory::base, 0x30'0000);
  const region& pages = host.ram.add(machine::data, 0x10'0000);
  host.nvme->memory_added();
  host.enable();
  fake::host_queue queue = host.make_pair(1, 16);
  host.drive.how = fake::disk::mode::delayed;
  host.drive.may_finish = 0;
  host.submit(queue, machine::io(io_opcode::read, 1, 1, machine::data));
  host.poll();

  host.ram.remove(pages);
  host.nvme->memory_leaving();
  host.submit(queue, machine::io(io_opcode::read, 2, 1, machine::data));
  host.submit(queue, machine::io(io_opcode::read, 3, 1, fake::memory::base + 0x2f'0000));
  host.poll();
  EXPECT_FALSE(host.nvme->memory_left());
  EXPECT_EQ(code(host.take(queue)), status_code::data_transfer_error);  // no more of it is used

  host.drive.may_finish = 1;  // the first; the third is of the time after
  host.poll();
  EXPECT_TRUE(host.nvme->memory_left());
  EXPECT_EQ(host.take(queue)->command_id, 1);
  host.drive.may_finish = 1;
  host.poll();
  EXPECT_EQ(host.take(queue)->command_id, 3);
  host.ram.remove(queues);
}

TEST(Controller, ACompletionQueueInLeavingMemoryStillGetsTheAnswersThatAreDue) {
  machine host;
  host.enable();
  fake::host_queue queue = host.make_pair(1, 8);
  host.drive.how = fake::disk::mode::delayed;
  host.drive.may_finish = 0;
  host.submit(queue, machine::io(io_opcode::read, 1, 1, machine::data));
  host.poll();
  host.ram.remove(*host.ram_region);
  host.nvme->memory_leaving();
  host.poll();
  EXPECT_FALSE(host.nvme->memory_left());
  host.drive.may_finish = 1;
  host.poll();
  EXPECT_TRUE(host.nvme->memory_left());
  EXPECT_EQ(code(host.take(queue)), status_code::success);
}

TEST(Controller, InterruptsWhenTheHostHasReadEverythingBeforeAndNotWhileItIsReading) {
  machine host;
  host.enable();
  fake::host_queue queue = host.make_pair(1, 32, 3 | 5U << 16U);
  unsigned& count = host.lines.count[5];
  host.submit(queue, machine::io(io_opcode::read, 1, 1, machine::data));
  host.poll(1);
  EXPECT_EQ(count, 1U);  // the queue was empty
  host.poll(3);
  EXPECT_EQ(count, 1U);  // told once

  for (std::uint64_t i = 2; i < 6; ++i) {
    host.submit(queue, machine::io(io_opcode::read, i, 1, machine::data));
  }
  host.poll_patiently();
  EXPECT_EQ(count, 2U);  // it has not moved since it was told: it may have stopped reading
  host.take(queue);
  host.take(queue);
  host.take(queue);
  host.submit(queue, machine::io(io_opcode::read, 6, 1, machine::data));
  host.poll(1);
  EXPECT_EQ(count, 2U);  // it is reading
  host.poll(1);
  EXPECT_EQ(count, 3U);  // it has stopped short of the tail
  while (host.take(queue)) {
  }
  host.poll_patiently();
  EXPECT_EQ(count, 3U);
}

TEST(Controller, AHostThatPollsIsNotInterrupted) {
  machine host;
  host.enable();
  fake::host_queue queue = host.make_pair(1, 8, 1);
  host.submit(queue, machine::io(io_opcode::read, 1, 1, machine::data));
  host.poll();
  EXPECT_EQ(host.lines.count[1], 0U);
}

TEST(Controller, ThePinFollowsUnreadAnswersAndItsMask) {
  machine host;
  host.enable();
  EXPECT_FALSE(host.nvme->pin_asserted());
  nvme::submission_entry abort{};
  abort.opcode = static_cast<std::uint8_t>(nvme::admin_opcode::abort);
  host.submit(host.admin, abort);
  host.poll();
  EXPECT_TRUE(host.nvme->pin_asserted());
  host.write(reg::intms, std::uint32_t{1});
  EXPECT_FALSE(host.nvme->pin_asserted());
  EXPECT_EQ(host.read<std::uint32_t>(0x10), 1U);
  host.write(reg::intmc, std::uint32_t{1});
  EXPECT_TRUE(host.nvme->pin_asserted());
  host.take(host.admin);
  EXPECT_FALSE(host.nvme->pin_asserted());
}

TEST(Controller, SurvivesRegistersAndDoorbellsInAnyOrder) {
  std::mt19937_64 random{77};  // fixed seed
  machine host;
  for (int i = 0; i < 50'000; ++i) {
    const std::uint64_t value = random() % 3 == 0 ? working_cc : random();
    const std::size_t width = std::size_t{1} << random() % 4;
    const std::size_t offset = random() % 4 == 0 ? 0x1000 + random() % 0x3000 : random() % 0x48;
    host.nvme->write_register(offset, std::as_bytes(std::span{&value, 1}).first(width));
    if (random() % 8 == 0) {
      host.set_admin_registers();
    }
    host.nvme->poll(host.clock.now());
    static_cast<void>(host.read<std::uint64_t>(offset));
  }
  host.drive.may_finish = 1024;
  host.poll();
  host.nvme->reset();
  host.enable();
  EXPECT_EQ(host.status(), nvme::csts_ready);
}

}  // namespace
}  // namespace runnel::target
