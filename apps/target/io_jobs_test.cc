// Goal: commands of several requests do all of it or say what failed, pairs are alone on their
// namespace and never half done, and none of them keeps the others waiting or is lost.
// Method: a fake host and a fake disk that answers in place, late, or has no room; both block
// sizes.

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <cstring>
#include <map>
#include <vector>

#include "apps/target/fake_driver.h"
#include "drivers/nvme/spec_commands.h"

namespace runnel::target {
namespace {

using fake::host_queue;
using fake::machine;
using nvme::io_opcode;
using nvme::status_code;
using nvme::submission_entry;

class IoJobs : public testing::TestWithParam<std::uint32_t> {
 protected:
  IoJobs() : host{{.block_bytes = GetParam(), .block_count = 8192}} {
    host.enable();
    queue = host.make_pair(1, 64);
    other = host.make_pair(2, 64);
  }
  std::uint32_t block_bytes() const { return GetParam(); }

  void fill(std::uint64_t address, unsigned value, std::size_t blocks = 1) {
    std::memset(host.ram.at(address), static_cast<int>(value), blocks * block_bytes());
  }
  unsigned content(std::uint64_t block) {
    return std::to_integer<unsigned>(*host.drive.content(block));
  }
  void set_content(std::uint64_t first, std::uint64_t count, unsigned value) {
    std::memset(host.drive.content(first), static_cast<int>(value), count * block_bytes());
  }
  /// The statuses of the answers that are there, by command id.
  std::map<unsigned, status_code> answers(host_queue& from) {
    std::map<unsigned, status_code> all;
    while (const auto entry = host.take(from)) {
      const auto code = static_cast<status_code>(nvme::status_of(entry->status_and_phase));
      EXPECT_TRUE(all.emplace(entry->command_id, code).second) << entry->command_id << " twice";
    }
    return all;
  }
  using statuses = std::map<unsigned, status_code>;

  /// Compares block `at` with `expected` and writes `wanted`; ids `id` and `id` + 1.
  void place_pair(host_queue& to, std::uint16_t id, std::uint64_t at, unsigned expected,
                  unsigned wanted) {
    const std::uint64_t memory = machine::data + std::uint64_t{id} * 0x2000;
    fill(memory, expected);
    fill(memory + 0x1000, wanted);
    submission_entry first = machine::io(io_opcode::compare, at, 1, memory);
    first.command_id = id;
    first.flags = nvme::fused_first;
    submission_entry second = machine::io(io_opcode::write, at, 1, memory + 0x1000);
    second.command_id = static_cast<std::uint16_t>(id + 1);
    second.flags = nvme::fused_second;
    host.place(to, first);
    host.place(to, second);
  }
  submission_entry dataset(const std::vector<nvme::dataset_range>& ranges, std::uint16_t id = 1) {
    std::memcpy(host.ram.at(machine::data), ranges.data(),
                ranges.size() * sizeof(nvme::dataset_range));
    submission_entry command = machine::io(io_opcode::dataset_management, 0, 1, machine::data);
    command.command_id = id;
    command.cdw10 = static_cast<std::uint32_t>(ranges.size() - 1);
    command.cdw11 = nvme::dataset_deallocate;
    command.cdw12 = 0;
    return command;
  }

  machine host;
  host_queue queue;
  host_queue other;
};
INSTANTIATE_TEST_SUITE_P(BlockBytes, IoJobs, testing::Values(512, 4096));

TEST_P(IoJobs, APairWritesWhenItComparesEqualAndElseChangesNothing) {
  for (const auto how : {fake::disk::mode::in_place, fake::disk::mode::delayed}) {
    host.drive.how = how;
    set_content(5, 1, 0x11);
    place_pair(queue, 1, 5, 0x11, 0x22);
    host.ring(queue);
    host.poll(8);
    EXPECT_EQ(answers(queue), (statuses{{1, status_code::success}, {2, status_code::success}}));
    EXPECT_EQ(content(5), 0x22U);
    place_pair(queue, 3, 5, 0x11, 0x33);
    host.ring(queue);
    host.poll(8);
    EXPECT_EQ(answers(queue),
              (statuses{{3, status_code::compare_failure}, {4, status_code::fused_failed}}));
    EXPECT_EQ(content(5), 0x22U);
  }
}

TEST_P(IoJobs, APairThatEndsBehindTheEndOfTheRingIsOne) {
  host_queue narrow = host.make_pair(3, 4);
  for (std::uint16_t id = 0; id < 20; id += 2) {  // pairs begin at every place of the ring
    place_pair(narrow, id, 5, content(5), id + 1U);
    host.ring(narrow);
    host.poll();
    EXPECT_EQ(answers(narrow).size(), 2U);
    EXPECT_EQ(content(5), id + 1U);
    host.submit(narrow, machine::io(io_opcode::flush, 0, 1, 0));
    host.poll();
    EXPECT_EQ(answers(narrow).size(), 1U);
  }
}

TEST_P(IoJobs, HalvesOfPairsAreNotCarriedOut) {
  set_content(5, 1, 0x11);
  struct row {
    const char* what;
    void (*change)(submission_entry& first, submission_entry& second);
    status_code first;
    status_code second;
  };
  const status_code field = status_code::invalid_field;
  const status_code failed = status_code::fused_failed;
  const status_code missing = status_code::fused_missing;
  using entry = submission_entry;
  for (const row& each : {
           row{"the second is not fused", [](entry&, entry& b) { b.flags = 0; }, missing,
               status_code::success},
           row{"two firsts", [](entry&, entry& b) { b.flags = 1; }, missing, missing},
           row{"two seconds", [](entry& a, entry&) { a.flags = 2; }, missing, missing},
           row{"fused value 3", [](entry& a, entry&) { a.flags = 3; }, field, missing},
           row{"an SGL", [](entry& a, entry&) { a.flags = 0x41; }, field, missing},
           row{"other blocks", [](entry&, entry& b) { b.cdw10 = 6; }, field, field},
           row{"more blocks", [](entry&, entry& b) { b.cdw12 = 1; }, field, field},
           row{"another namespace", [](entry&, entry& b) { b.nsid = 2; }, field, field},
           row{"a namespace that is not there", [](entry& a, entry& b) { a.nsid = b.nsid = 9; },
               status_code::invalid_namespace_or_format, status_code::invalid_namespace_or_format},
           row{"read and write", [](entry& a, entry&) { a.opcode = 2; }, field, field},
           row{"compare and compare", [](entry&, entry& b) { b.opcode = 5; }, field, field},
           row{"a compare from nowhere", [](entry& a, entry&) { a.prp1 = 0; },
               status_code::data_transfer_error, failed},
           row{"a write from nowhere", [](entry&, entry& b) { b.prp1 = 0; }, failed,
               status_code::data_transfer_error},
           row{"a write with a directive", [](entry&, entry& b) { b.cdw12 |= 1U << 20U; }, failed,
               field},
           row{"beyond the end", [](entry& a, entry& b) { a.cdw11 = b.cdw11 = 1; },
               status_code::lba_out_of_range, status_code::lba_out_of_range},
       }) {
    const host_queue before = queue;
    place_pair(queue, 1, 5, 0x11, 0x22);
    std::array<submission_entry, 2> pair;
    std::byte* const slot = host.ram.at(queue.submission + std::uint64_t{before.tail} * 64);
    std::memcpy(pair.data(), slot, sizeof pair);
    each.change(pair[0], pair[1]);
    std::memcpy(slot, pair.data(), sizeof pair);
    host.ring(queue);
    host.poll();
    EXPECT_EQ(answers(queue), (statuses{{1, each.first}, {2, each.second}})) << each.what;
    EXPECT_EQ(content(5), each.second == status_code::success ? 0x22U : 0x11U) << each.what;
    set_content(5, 1, 0x11);
  }
}

TEST_P(IoJobs, APairIsRungWhole) {
  place_pair(queue, 1, 5, 0, 1);
  host.set_doorbell(2, 1);  // the second is written, but not yet the controller's
  host.poll();
  EXPECT_EQ(answers(queue), (statuses{{1, status_code::fused_missing}}));
  host.ring(queue);
  host.poll();
  EXPECT_EQ(answers(queue), (statuses{{2, status_code::fused_missing}}));
  EXPECT_EQ(content(5), 0U);
}

TEST_P(IoJobs, APairIsAloneOnItsNamespace) {
  host.drive.how = fake::disk::mode::delayed;
  host.drive.may_finish = 0;
  host.submit(other, machine::io(io_opcode::write, 40, 1, machine::data));
  host.poll();
  EXPECT_EQ(host.drive.waiting(), 1U);
  place_pair(queue, 1, 5, 0, 7);
  host.ring(queue);
  host.submit(other, machine::io(io_opcode::write, 41, 1, machine::data));
  host.poll();
  EXPECT_EQ(host.drive.waiting(), 1U);  // neither the pair nor what came after it
  host.drive.may_finish = 1;
  host.poll();
  EXPECT_EQ(answers(other), (statuses{{40, status_code::success}}));
  EXPECT_EQ(host.drive.waiting(), 1U);  // its comparison, alone
  host.drive.may_finish = 1;
  host.poll();
  EXPECT_EQ(host.drive.waiting(), 1U);  // its write, alone
  EXPECT_TRUE(answers(queue).empty());
  host.drive.may_finish = 8;
  host.poll(8);
  EXPECT_EQ(answers(queue), (statuses{{1, status_code::success}, {2, status_code::success}}));
  EXPECT_EQ(answers(other), (statuses{{41, status_code::success}}));
}

TEST_P(IoJobs, APairWaitsForThePairOfAnotherController) {
  std::atomic<bool>& gate = *host.system.namespaces[0].pair_gate;
  gate = true;
  place_pair(queue, 1, 5, 0, 7);
  host.ring(queue);
  host.poll();
  EXPECT_TRUE(answers(queue).empty());
  EXPECT_EQ(content(5), 0U);
  gate = false;
  host.poll();
  EXPECT_EQ(answers(queue).size(), 2U);
  EXPECT_EQ(content(5), 7U);
  EXPECT_FALSE(gate);
}

TEST_P(IoJobs, APairWhoseWriteFailsSaysWhichHalfItWas) {
  host.drive.how = fake::disk::mode::delayed;
  host.drive.may_finish = 1;
  place_pair(queue, 1, 5, 0, 7);
  host.ring(queue);
  host.poll();
  host.drive.status = block_status::write_fault;
  host.drive.may_finish = 1;
  host.poll();
  EXPECT_EQ(answers(queue), (statuses{{1, status_code::success}, {2, status_code::write_fault}}));
}

TEST_P(IoJobs, ACompletionQueueTooSmallForTwoAnswersTakesNoPair) {
  host_queue narrow{.id = 3,
                    .entries = 64,
                    .submission = machine::io_sq + 0x3'0000,
                    .completion = machine::io_cq + 0xc000};
  ASSERT_EQ(host.execute_status(machine::create_cq(3, 2, narrow.completion)), status_code::success);
  ASSERT_EQ(host.execute_status(machine::create_sq(3, 64, narrow.submission, 3)),
            status_code::success);
  place_pair(narrow, 1, 5, 0, 7);
  host.ring(narrow);
  host_queue reader = narrow;
  reader.entries = 2;
  host.poll();
  EXPECT_EQ(answers(reader), (statuses{{1, status_code::invalid_field}}));
  host.poll();
  EXPECT_EQ(answers(reader), (statuses{{2, status_code::fused_missing}}));
}

TEST_P(IoJobs, AllRangesAreGivenUpAndTheAnswerComesOnce) {
  for (const auto how : {fake::disk::mode::in_place, fake::disk::mode::delayed}) {
    host.drive.how = how;
    set_content(0, 8192, 9);
    std::vector<nvme::dataset_range> ranges;
    for (std::uint32_t i = 0; i < 256; ++i) {
      ranges.push_back({.attributes = i, .blocks = i % 3, .first = i * 8});
    }
    ranges[7] = {.attributes = 0, .blocks = 4096, .first = 4096};  // more than one request's worth
    host.submit(queue, dataset(ranges));
    host.poll(400);
    EXPECT_EQ(answers(queue), (statuses{{1, status_code::success}}));
    for (std::uint32_t i = 0; i < 256; ++i) {
      for (std::uint32_t j = 0; j < 8; ++j) {
        ASSERT_EQ(content(i * 8 + j), i != 7 && j < i % 3 ? 0U : 9U) << i << " + " << j;
      }
    }
    EXPECT_EQ(content(4095), 9U);
    EXPECT_EQ(content(4096), 0U);
    EXPECT_EQ(content(8191), 0U);
  }
}

TEST_P(IoJobs, OneWrongRangeKeepsAllFromBeingTouched) {
  set_content(0, 8192, 9);
  for (const nvme::dataset_range& wrong :
       {nvme::dataset_range{0, 2, 8191}, nvme::dataset_range{0, 1, ~std::uint64_t{0}}}) {
    host.submit(queue, dataset({{0, 4, 0}, wrong}));
    host.poll();
    EXPECT_EQ(answers(queue), (statuses{{1, status_code::lba_out_of_range}}));
  }
  submission_entry hint = dataset({{0, 4, 0}});
  hint.cdw11 = 0;  // not the deallocate attribute
  host.submit(queue, hint);
  host.poll();
  EXPECT_EQ(answers(queue), (statuses{{1, status_code::success}}));
  EXPECT_EQ(content(0), 9U);
}

TEST_P(IoJobs, WhatComesWhileALongCommandRunsIsAnsweredBeforeIt) {
  set_content(0, 8192, 9);
  submission_entry zeroes = machine::io(io_opcode::write_zeroes, 0, 8192, 0);
  zeroes.command_id = 1;
  host.drive.room = 3;  // then the device has no room for the next request
  host.submit(queue, zeroes);
  host.poll(1);
  host.drive.room = 1U << 20U;
  host.submit(other, machine::io(io_opcode::read, 77, 1, machine::data));
  host.poll(1);
  EXPECT_EQ(answers(other).size(), 1U);
  host.poll(20);
  EXPECT_EQ(answers(queue), (statuses{{1, status_code::success}}));
  EXPECT_EQ(content(0), 0U);
  EXPECT_EQ(content(8191), 0U);
}

TEST_P(IoJobs, ZeroesAndFlushOfAllNamespacesAreDurableWhenAskedFor) {
  submission_entry zeroes = machine::io(io_opcode::write_zeroes, 3, 2, 0);
  zeroes.cdw12 |= nvme::io_force_unit_access;
  host.submit(queue, zeroes);
  host.poll();
  EXPECT_EQ(host.drive.flushes, 1U);
  submission_entry flush = machine::io(io_opcode::flush, 4, 1, 0);
  flush.nsid = nvme::nsid_all;
  host.submit(queue, flush);
  host.poll();
  EXPECT_EQ(host.drive.flushes, 2U);
  EXPECT_EQ(answers(queue), (statuses{{3, status_code::success}, {4, status_code::success}}));
}

TEST_P(IoJobs, MoreOfThemThanThereArePlacesAreAllAnswered) {
  host.drive.how = fake::disk::mode::delayed;
  host.drive.may_finish = 0;
  for (std::uint16_t i = 0; i < 60; ++i) {
    host.submit(queue, machine::io(io_opcode::verify, i, 1, 0));
  }
  host.poll();
  EXPECT_EQ(host.drive.waiting(), io_jobs::jobs_max);
  host.drive.may_finish = 1024;
  host.poll(40);
  EXPECT_EQ(answers(queue).size(), 60U);
}

TEST_P(IoJobs, TheControllerIsDisabledWhenItsJobsHaveEnded) {
  host.drive.how = fake::disk::mode::delayed;
  host.drive.may_finish = 0;
  place_pair(queue, 1, 5, 0, 7);
  host.ring(queue);
  host.poll();
  host.write(nvme::reg::cc, std::uint32_t{0});
  host.poll();
  EXPECT_EQ(host.status() & nvme::csts_ready, nvme::csts_ready);
  host.drive.may_finish = 8;
  host.poll(8);
  EXPECT_EQ(host.status() & nvme::csts_ready, 0U);
  EXPECT_EQ(content(5), 7U);
}

}  // namespace
}  // namespace runnel::target
