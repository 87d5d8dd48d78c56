#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <utility>

#include "apps/perf/workload.h"
#include "tests/sim/block_checker.h"
#include "tests/sim/bytes.h"
#include "tests/sim/fault_counts.h"
#include "tests/sim/faulty_disk.h"
#include "tests/sim/served_controller.h"
#include "tests/sim/trace.h"

namespace runnel::sim {

/// What a host does that it should not, or that is hard to bear.
enum class host_fault : std::uint8_t {
  entry_changed,   // a command is another once it was fetched
  list_changed,    // an entry of a PRP list is another once it was read
  data_left,       // memory leaves with commands on it in flight
  queue_left,      // and so does a queue
  disabled,        // CC.EN, under load
  function_reset,  // under load
  queue_deleted,   // under load
  wrong_tail,      // a doorbell with no index
  wrong_head,
  wrong_queue,  // a doorbell of a queue that is not there
  bad_command,
  bad_admin_command,
  unread_answers,  // for a while
  disk_late,
  disk_failed,
  disk_full,
  count,
};
using host_fault_counts = fault_counts<host_fault>;
inline constexpr host_fault_counts::names host_fault_names{
    "commands changed", "lists changed",         "memory left",        "queues left",
    "disabled",         "functions reset",       "queues deleted",     "wrong tails",
    "wrong heads",      "doorbells of no queue", "bad commands",       "bad admin commands",
    "answers unread",   "late in the disk",      "failed in the disk", "refused by the disk"};

/// Sends a served controller commands by a seed, good ones and bad ones, changes them once they
/// were read, and judges how they end.
class controller_user {
 public:
  static constexpr std::uint64_t block_count = 64;

  /// @param disk  one block larger
  /// @param changes  what the controller reads becomes something else: not for disks that refuse,
  ///                 because then commands are fetched again
  controller_user(faulty_disk& disk, std::uint64_t seed, bool changes, host_fault_counts& counts)
      : random_{~seed},
        counts_{counts},
        disk_{disk},
        block_bytes_{disk.info().block_bytes},
        on_{disk, bait_page + 1, static_cast<std::uint16_t>(4 + random_.below(28))},
        checker_{{block_bytes_, block_bytes_, block_count, false}},
        changes_what_is_read_{changes} {
    on_.memory.on_find = [this](std::uint64_t address) { change_what_was_read(address); };
    fill_pages(first_slot_page, slots * slot_pages + 1, untouched);
  }

 protected:
  using status_code = nvme::status_code;

  static constexpr std::size_t slots = 20;
  static constexpr std::size_t data_pages = 9;  // the largest transfer, beginning inside a page
  static constexpr std::size_t slot_pages = data_pages + 1;  // and its list
  static constexpr std::size_t first_slot_page = served_controller::first_free_page;
  static constexpr std::size_t bait_page = first_slot_page + slots * slot_pages;
  static constexpr std::uint32_t blocks_max = 8;
  static constexpr std::uint64_t bait_block = block_count;  // which no command of ours names
  static constexpr std::uint16_t bait_id = 0x7fff;
  static constexpr std::byte untouched{0xa5};
  static constexpr std::byte gone{0x6e};

  struct command {
    block_op op = block_op::flush;
    bool in_flight = false;
    bool bad = false;
    bool unreachable = false;  // some of its memory was away when it was made
    bool lost_memory = false;  // or was since
    bool changes = false;      // what the controller reads, once it has
    std::uint16_t id = 0;
    std::uint64_t entry = 0;  // where it was placed
    std::size_t pages = 0;    // that its data are on
    block_checker::write write{};
    block_checker::read read{};
    std::span<std::byte> data{};
  };

  [[nodiscard]] bool one_of(std::uint64_t count) { return random_.below(count) == 0; }
  [[nodiscard]] static std::size_t data_page(std::size_t slot) {
    return first_slot_page + slot * slot_pages;
  }
  [[nodiscard]] static std::size_t list_page(std::size_t slot) {
    return data_page(slot) + data_pages;
  }
  [[nodiscard]] std::size_t in_flight() const {
    return static_cast<std::size_t>(std::ranges::count_if(commands_, &command::in_flight));
  }

  void fill_pages(std::size_t first, std::size_t count, std::byte with) {
    std::memset(on_.memory.at(hostile_memory::page(first)), static_cast<int>(with),
                count * hostile_memory::page_bytes);
  }

  void submit_some() {
    for (std::uint64_t tries = random_.below(4); tries > 0; --tries) {
      const std::size_t slot = random_.below(slots);
      if (!commands_[slot].in_flight) {
        start(slot);
      }
    }
    if (!one_of(4)) {
      on_.ring();
    }
  }

  void start(std::size_t slot) {
    command& one = commands_[slot];
    constexpr std::array kinds{block_op::read,  block_op::read,         block_op::write,
                               block_op::write, block_op::write_zeroes, block_op::flush};
    one = {.op = kinds[random_.below(kinds.size())], .in_flight = true};
    one.id = static_cast<std::uint16_t>((++generation_ & 0xffU) << 5U | slot);
    const auto blocks = static_cast<std::uint32_t>(1 + random_.below(blocks_max));
    const std::uint64_t first = random_.below(block_count - blocks);
    nvme::submission_entry entry{};
    entry.command_id = one.id;
    entry.nsid = 1;
    entry.opcode = opcode_of(one.op);
    if (one.op != block_op::flush) {
      entry.cdw10 = static_cast<std::uint32_t>(first);
      entry.cdw12 = blocks - 1;
    }
    if (has_data(one.op)) {
      describe_data(slot, one, entry, std::uint64_t{blocks} * block_bytes_);
      one.changes = changes_what_is_read_ && one_of(4);
    }
    begin(one, first, blocks);
    if (one_of(16)) {
      spoil(one, entry);
    }
    one.entry = on_.place(entry);
  }

  [[nodiscard]] static std::uint8_t opcode_of(block_op op) {
    switch (op) {
      case block_op::read:
        return static_cast<std::uint8_t>(nvme::io_opcode::read);
      case block_op::write:
        return static_cast<std::uint8_t>(nvme::io_opcode::write);
      case block_op::write_zeroes:
        return static_cast<std::uint8_t>(nvme::io_opcode::write_zeroes);
      default:
        return static_cast<std::uint8_t>(nvme::io_opcode::flush);
    }
  }

  void describe_data(std::size_t slot, command& one, nvme::submission_entry& entry,
                     std::uint64_t bytes) {
    const std::uint64_t page = hostile_memory::page(data_page(slot));
    const std::uint64_t offset = random_.below(hostile_memory::page_bytes / 4) * 4;
    one.data = {on_.memory.at(page + offset), static_cast<std::size_t>(bytes)};
    one.pages = static_cast<std::size_t>((offset + bytes - 1) / hostile_memory::page_bytes) + 1;
    one.unreachable = one.lost_memory = !reaches_all(slot);
    EXPECT_TRUE(one.unreachable || holds_only(one.data, untouched));
    entry.prp1 = page + offset;
    entry.prp2 = page + hostile_memory::page_bytes;
    if (one.pages > 2) {
      entry.prp2 = hostile_memory::page(list_page(slot));
      for (std::size_t i = 1; i < one.pages && on_.memory.present(list_page(slot)); ++i) {
        set_list_entry(slot, i - 1, page + i * hostile_memory::page_bytes);
      }
    }
  }
  void set_list_entry(std::size_t slot, std::size_t index, std::uint64_t value) {
    std::memcpy(on_.memory.page_at(list_page(slot)).data() + index * sizeof value, &value,
                sizeof value);
  }
  /// Whether all that the slot's command needs of memory is there.
  [[nodiscard]] bool reaches_all(std::size_t slot) const {
    bool all = commands_[slot].pages < 3 || on_.memory.present(list_page(slot));
    for (std::size_t i = 0; i < commands_[slot].pages; ++i) {
      all = all && on_.memory.present(data_page(slot) + i);
    }
    return all;
  }

  void begin(command& one, std::uint64_t first, std::uint32_t blocks) {
    if (changes_data(one.op)) {
      one.write = checker_.begin_write(first, blocks, one.op == block_op::write_zeroes);
    }
    if (one.op == block_op::write && !one.unreachable) {
      checker_.fill(one.write, one.data);
    } else if (one.op == block_op::read) {
      one.read = checker_.begin_read(first);
    }
  }

  /// Makes a command that can only be refused.
  void spoil(command& one, nvme::submission_entry& entry) {
    one.bad = true;
    one.changes = false;
    counts_.add(host_fault::bad_command);
    switch (random_.below(one.op == block_op::read || one.op == block_op::write ? 6 : 2)) {
      case 0:
        entry.opcode = 0x7f;
        break;
      case 1:
        entry.nsid = 9;
        break;
      case 2:
        entry.cdw10 = static_cast<std::uint32_t>(one_of(2) ? block_count : block_count + 1);
        entry.cdw12 = 7;
        break;
      case 3:
        entry.prp1 |= 2;
        break;
      case 4:
        entry.prp1 = on_.memory.end() + random_.below(1U << 20U) * 4;
        break;
      default:
        entry.cdw12 = 0xffff;
        break;
    }
  }

  /// The controller has found `address`: it has read what led it there, so that may be another now.
  void change_what_was_read(std::uint64_t address) {
    const std::size_t page = hostile_memory::page_of(address);
    if (page < first_slot_page || page >= bait_page) {
      return;
    }
    const std::size_t slot = (page - first_slot_page) / slot_pages;
    command& one = commands_[slot];
    if (!one.in_flight || !one.changes) {
      return;
    }
    change_entry(one);
    for (std::size_t i = 0; i < data_pages; ++i) {
      std::uint64_t listed = 0;
      std::memcpy(&listed, on_.memory.page_at(list_page(slot)).data() + i * 8, sizeof listed);
      if (listed == hostile_memory::page(page)) {
        set_list_entry(slot, i, hostile_memory::page(bait_page));
        counts_.add(host_fault::list_changed);
      }
    }
  }
  /// A controller that looks again writes the bait, and answers to nobody.
  void change_entry(const command& one) {
    nvme::submission_entry bait{};
    bait.opcode = static_cast<std::uint8_t>(nvme::io_opcode::write);
    bait.command_id = bait_id;
    bait.nsid = 1;
    bait.prp1 = hostile_memory::page(bait_page);
    bait.cdw10 = static_cast<std::uint32_t>(bait_block);
    nvme::submission_entry now{};
    std::memcpy(&now, on_.memory.at(one.entry), sizeof now);
    if (now.command_id == one.id) {
      std::memcpy(on_.memory.at(one.entry), &bait, sizeof bait);
      counts_.add(host_fault::entry_changed);
    }
  }

  void turn() {
    trace_.add(on_.poll());
    if (unread_turns_ != 0) {
      --unread_turns_;
      return;
    }
    collect();
  }
  void collect() {
    while (const auto answer = on_.take()) {
      const std::size_t slot = answer->command_id & 0x1fU;
      trace_.add(std::uint64_t{answer->command_id} << 16U | answer->status_and_phase);
      if (slot >= slots || !commands_[slot].in_flight || commands_[slot].id != answer->command_id) {
        ADD_FAILURE() << "an answer to command " << answer->command_id;
        return;
      }
      end(slot, static_cast<status_code>(nvme::status_of(answer->status_and_phase)));
    }
  }

  void end(std::size_t slot, status_code status) {
    command& one = commands_[slot];
    one.in_flight = false;
    expect_fits(one, status);
    const bool success = status == status_code::success;
    if ((one.bad || one.unreachable) && changes_data(one.op)) {
      checker_.withdraw(one.write);
    } else if (changes_data(one.op)) {
      checker_.end_write(one.write, success);
    } else if (one.op == block_op::read && success) {
      checker_.end_read(one.read, one.data);
    } else if (one.op == block_op::read) {
      checker_.drop_read(one.read);
    }
    clean(slot);
  }
  void expect_fits(const command& one, status_code status) const {
    EXPECT_FALSE((one.bad || one.unreachable) && status == status_code::success);
    EXPECT_TRUE(!one.bad || one.op != block_op::read || one.lost_memory ||
                holds_only(one.data, untouched));
    if (!one.bad && status != status_code::success) {
      const bool of_memory = status == status_code::data_transfer_error && one.lost_memory;
      const bool of_disk = disk_.failures != 0 && (status == status_code::write_fault ||
                                                   status == status_code::unrecovered_read_error);
      EXPECT_TRUE(of_memory || of_disk) << "status " << static_cast<int>(status);
    }
  }
  /// Its memory is ours again, as far as it is there.
  void clean(std::size_t slot) {
    for (std::size_t page = data_page(slot); page < data_page(slot) + slot_pages; ++page) {
      if (on_.memory.present(page)) {
        fill_pages(page, 1, untouched);
      }
    }
  }

  /// The controller has forgotten them; what they have done is unknown.
  void give_up_all() {
    for (std::size_t slot = 0; slot < slots; ++slot) {
      command& one = commands_[slot];
      if (!std::exchange(one.in_flight, false)) {
        continue;
      }
      if (changes_data(one.op)) {
        checker_.end_write(one.write, false);
      } else if (one.op == block_op::read) {
        checker_.drop_read(one.read);
      }
      clean(slot);
    }
    unread_turns_ = 0;
  }

  perf::random_stream random_;
  host_fault_counts& counts_;
  faulty_disk& disk_;
  std::uint32_t block_bytes_;
  served_controller on_;
  block_checker checker_;
  bool changes_what_is_read_;
  std::array<command, slots> commands_{};
  trace trace_;
  std::uint32_t generation_ = 0;
  std::uint64_t unread_turns_ = 0;  // that the host still does not look for answers
};

}  // namespace runnel::sim
