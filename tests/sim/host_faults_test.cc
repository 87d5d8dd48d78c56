// Goal: whatever a host does to the controller that we serve, each command of it ends once and
// does what it said when it was fetched, memory that left is not touched, and the disk behind holds
// what it may hold. Method: a seeded host on bare registers and memory, a disk that is late and
// fails, both in one thread; every block that is read is judged.

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <vector>

#include "tests/sim/controller_user.h"
#include "tests/sim/faulty_disk.h"
#include "tests/sim/seeds.h"

namespace runnel {
namespace {

using nvme::status_code;
using sim::holds_only;
using sim::host_fault;
using sim::host_fault_counts;
using sim::hostile_memory;
using sim::served_controller;

constexpr std::uint64_t seeds = 2000;
constexpr int turns_of_load = 250;
constexpr int turns_to_settle = 10'000;

/// A disk with no room has commands fetched again, and then they may be others.
bool may_refuse(std::uint64_t seed) {
  return seed % 4 == 0;
}

sim::faulty_disk_options disk_behind(std::uint64_t seed) {
  return {.block_bytes = seed % 2 == 0 ? 512U : 4096U,
          .block_count = sim::controller_user::block_count + 1,
          .seed = seed,
          .late = 192,
          .refused = may_refuse(seed) ? 16U : 0U,
          .failing = seed % 3 == 0 ? 4U : 0U};
}

class hostile_host : private sim::controller_user {
 public:
  hostile_host(sim::faulty_disk& disk, std::uint64_t seed, host_fault_counts& counts)
      : controller_user{disk, seed, !may_refuse(seed), counts} {}

  /// @return the hash of all that happened
  std::uint64_t live() {
    on_.bring_up();
    for (int i = 0; i < turns_of_load && !testing::Test::HasFailure(); ++i) {
      do_something_wrong();
      submit_some();
      turn();
    }
    settle();
    judge_what_is_there();
    EXPECT_TRUE(on_.disable());
    EXPECT_EQ(checker_.wrong(), 0U) << checker_.first_wrong();
    counts_.add(host_fault::disk_late, disk_.late_ones);
    counts_.add(host_fault::disk_failed, disk_.failures);
    counts_.add(host_fault::disk_full, disk_.refusals);
    return trace_.hash();
  }

 private:
  void do_something_wrong() {
    if (!one_of(12)) {
      return;
    }
    switch (random_.below(11)) {
      case 0:
      case 1:
        return take_data_away();
      case 2:
        return take_queue_away();
      case 3:
        return one_of(2) ? disable() : reset_function();
      case 4:
        return delete_queue();
      case 5:
        return ring_wrong_tail();
      case 6:
        counts_.add(host_fault::wrong_head);
        on_.set_head(static_cast<std::uint32_t>(0x8000 + random_.below(0xffff'0000)));
        on_.poll();
        return on_.ring_head();
      case 7:
        counts_.add(host_fault::wrong_queue);
        return on_.set_doorbell(4 + random_.below(40), static_cast<std::uint32_t>(random_.next()));
      case 8:
        return ask_for_nonsense();
      default:
        counts_.add(host_fault::unread_answers);
        unread_turns_ = random_.below(20);
    }
  }

  void ring_wrong_tail() {
    const std::uint64_t before = on_.nvme->counters().wrong_doorbells;
    on_.set_tail(static_cast<std::uint32_t>(on_.io.entries + random_.below(0xffff'0000)));
    on_.poll();
    EXPECT_GT(on_.nvme->counters().wrong_doorbells, before);
    counts_.add(host_fault::wrong_tail);
    on_.ring();
  }

  void disable() {
    counts_.add(host_fault::disabled);
    EXPECT_TRUE(on_.disable());
    give_up_all();
    on_.bring_up();
  }
  void reset_function() {
    counts_.add(host_fault::function_reset);
    EXPECT_TRUE(on_.reset_function());
    give_up_all();
    on_.bring_up();
  }
  void delete_queue() {
    using nvme::admin_opcode;
    const auto order = [](admin_opcode what) {
      return served_controller::machine::delete_queue(what, served_controller::io_queue);
    };
    counts_.add(host_fault::queue_deleted);
    EXPECT_NE(on_.ask(order(admin_opcode::delete_io_cq)), status_code::success);
    EXPECT_EQ(on_.ask(order(admin_opcode::delete_io_sq)), status_code::success);
    collect();
    EXPECT_EQ(on_.ask(order(admin_opcode::delete_io_cq)), status_code::success);
    give_up_all();
    on_.make_queues();
  }
  void ask_for_nonsense() {
    using machine = served_controller::machine;
    counts_.add(host_fault::bad_admin_command);
    const std::uint64_t somewhere = hostile_memory::page(bait_page);
    const std::array nonsense{machine::create_cq(1, 16, somewhere),
                              machine::create_sq(1, 16, somewhere, 1),
                              machine::create_sq(2, 16, somewhere, 7),
                              machine::create_cq(2, 1, somewhere),
                              machine::create_cq(2, 16, somewhere + 8),
                              machine::create_cq(0, 16, somewhere),
                              machine::delete_queue(nvme::admin_opcode::delete_io_sq, 0),
                              machine::delete_queue(nvme::admin_opcode::delete_io_sq, 2)};
    EXPECT_NE(on_.ask(nonsense[random_.below(nonsense.size())]), status_code::success);
  }

  void take_data_away() {
    const std::size_t count = 1 + random_.below(4);
    const std::size_t first = first_slot_page + random_.below(slots * slot_pages - count);
    const auto pages = [&](auto&& what) {
      for (std::size_t page = first; page < first + count; ++page) {
        what(page);
      }
    };
    counts_.add(host_fault::data_left);
    pages([this](std::size_t page) { on_.memory.set_present(page, false); });
    note_lost_memory();
    leave();
    unread_turns_ = 0;
    collect();  // all that used it has been answered
    pages([this](std::size_t page) { fill_pages(page, 1, gone); });
    work_without_it();
    pages([this](std::size_t page) {
      EXPECT_TRUE(holds_only(on_.memory.page_at(page), gone)) << "page " << page;
      fill_pages(page, 1, untouched);
      on_.memory.set_present(page, true);
    });
    on_.nvme->memory_added();
  }
  void note_lost_memory() {
    for (std::size_t slot = 0; slot < slots; ++slot) {
      commands_[slot].lost_memory |= commands_[slot].in_flight && !reaches_all(slot);
    }
  }
  /// Commands on what is away must end with an error before it returns.
  void work_without_it() {
    for (std::uint64_t turns = random_.below(10); turns > 0; --turns) {
      submit_some();
      turn();
    }
    on_.ring();
    unread_turns_ = 0;
    for (int i = 0; i < turns_to_settle && any_without_memory(); ++i) {
      turn();
    }
    EXPECT_FALSE(any_without_memory());
  }
  [[nodiscard]] bool any_without_memory() const {
    for (std::size_t slot = 0; slot < slots; ++slot) {
      if (commands_[slot].in_flight && !reaches_all(slot)) {
        return true;
      }
    }
    return false;
  }

  void take_queue_away() {
    counts_.add(host_fault::queue_left);
    const std::size_t page = one_of(2) ? served_controller::sq_page : served_controller::cq_page;
    on_.memory.set_present(page, false);
    leave();
    const std::vector<std::byte> before{on_.memory.page_at(page).begin(),
                                        on_.memory.page_at(page).end()};
    for (std::uint64_t turns = random_.below(10); turns > 0; --turns) {
      on_.poll();
    }
    EXPECT_TRUE(std::ranges::equal(before, on_.memory.page_at(page)));
    on_.memory.set_present(page, true);
    on_.nvme->memory_added();
  }
  void leave() {
    on_.nvme->memory_leaving();
    int turns = 0;
    while (!on_.nvme->memory_left() && ++turns < turns_to_settle) {
      on_.poll();
    }
    EXPECT_TRUE(on_.nvme->memory_left());
  }

  void settle() {
    unread_turns_ = 0;
    disk_.behave();
    on_.ring();
    for (int i = 0; i < turns_to_settle && in_flight() != 0; ++i) {
      turn();
    }
    EXPECT_EQ(in_flight(), 0U);
    EXPECT_TRUE(on_.nvme->quiet());
    EXPECT_TRUE(holds_only(on_.memory.page_at(bait_page), untouched));
    EXPECT_TRUE(holds_only(disk_.block(bait_block), std::byte{0}));
  }
  void judge_what_is_there() {
    for (std::uint64_t block = 0; block < block_count; ++block) {
      checker_.end_read(checker_.begin_read(block), disk_.block(block));
    }
  }
};

std::uint64_t history_of(std::uint64_t seed, host_fault_counts& counts) {
  sim::faulty_disk disk{disk_behind(seed)};
  hostile_host one{disk, seed, counts};
  return one.live();
}

TEST(HostFaults, EveryCommandEndsOnceAndAsItWasWhateverTheHostDoes) {
  host_fault_counts counts{sim::host_fault_names};
  const std::uint64_t run =
      sim::for_each_seed(seeds, [&](std::uint64_t seed) { history_of(seed, counts); });
  counts.report(run, seeds);
}

TEST(HostFaults, OneSeedHasOneHistory) {
  host_fault_counts counts{sim::host_fault_names};
  sim::expect_seeds_decide([&](std::uint64_t seed) { return history_of(seed, counts); });
}

}  // namespace
}  // namespace runnel
