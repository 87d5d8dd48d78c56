#pragma once

#include <gtest/gtest.h>

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "apps/target/controller.h"
#include "apps/target/fake_driver.h"
#include "drivers/mmio.h"
#include "drivers/nvme/spec.h"
#include "tests/sim/hostile_memory.h"

namespace runnel::sim {

/// The controller that we serve, with one disk, in the hands of a host that has no scruples: it
/// knows how things are done, and its user decides when they are not.
class served_controller {
 public:
  using machine = target::fake::machine;
  using host_queue = target::fake::host_queue;

  // Where things are, by pages.
  static constexpr std::size_t admin_sq_page = 0;
  static constexpr std::size_t admin_cq_page = 1;
  static constexpr std::size_t sq_page = 2;
  static constexpr std::size_t cq_page = 3;
  static constexpr std::size_t first_free_page = 4;

  static constexpr std::uint16_t io_queue = 1;
  static constexpr std::uint16_t sq_entries = 32;
  static constexpr int turns_max = 10'000;

  /// @param cq_entries  of the I/O queue
  served_controller(block_device& disk, std::size_t pages, std::uint16_t cq_entries)
      : memory{pages}, cq_entries_{cq_entries}, doorbells_(target::doorbell_area::bytes) {
    system.nqn = "nqn.2014-08.org.nvmexpress:uuid:test";
    system.serial = "S1";
    system.firmware = "1.0";
    system.add(disk, {});
    paths.push_back(
        {.queue = std::move(*disk.make_queue(64)),
         .block_count = disk.info().block_count,
         .block_shift = static_cast<std::uint32_t>(std::countr_zero(disk.info().block_bytes))});
    nvme.emplace(
        system, target::controller_options{.queues = {.doorbell_stride_bytes = stride}},
        target::controller_ports{
            .memory = &memory, .interrupts = &lines_, .paths = paths, .doorbells = doorbells_});
  }

  /// One turn, 50 ns after the last one.
  std::uint32_t poll() { return nvme->poll(now_ += machine::turn_takes); }

  /// From power-on, or disabled, to a queue pair that works.
  void bring_up() {
    write(nvme::reg::aqa, nvme::admin_queue_attributes(admin_entries, admin_entries));
    write(nvme::reg::asq, hostile_memory::page(admin_sq_page));
    write(nvme::reg::acq, hostile_memory::page(admin_cq_page));
    std::memset(memory.page_at(admin_cq_page).data(), 0, hostile_memory::page_bytes);
    write(nvme::reg::cc, nvme::enabled_configuration(hostile_memory::page_bytes));
    admin_ = {.id = 0,
              .entries = admin_entries,
              .submission = hostile_memory::page(admin_sq_page),
              .completion = hostile_memory::page(admin_cq_page)};
    EXPECT_TRUE(ready());
    make_queues();
  }
  void make_queues() {
    io = {.id = io_queue,
          .entries = sq_entries,
          .submission = hostile_memory::page(sq_page),
          .completion = hostile_memory::page(cq_page)};
    std::memset(memory.page_at(cq_page).data(), 0, hostile_memory::page_bytes);
    EXPECT_EQ(ask(machine::create_cq(io_queue, cq_entries_, io.completion)),
              nvme::status_code::success);
    EXPECT_EQ(ask(machine::create_sq(io_queue, sq_entries, io.submission, io_queue)),
              nvme::status_code::success);
    answers_ = io;
    answers_.entries = cq_entries_;
  }
  [[nodiscard]] bool ready() const {
    std::uint32_t status = 0;
    nvme->read_register(static_cast<std::size_t>(nvme::reg::csts),
                        std::as_writable_bytes(std::span{&status, 1}));
    return status == nvme::csts_ready;
  }
  /// True: it was, and all that it had begun has ended.
  [[nodiscard]] bool disable() {
    write(nvme::reg::cc, std::uint32_t{0});
    for (int i = 0; i < turns_max && ready(); ++i) {
      poll();
    }
    return !ready() && nvme->quiet();
  }
  /// The same by the function level reset of a transport.
  [[nodiscard]] bool reset_function() {
    nvme->pause();
    for (int i = 0; i < turns_max && !nvme->quiet(); ++i) {
      poll();
    }
    const bool quiet = nvme->quiet();
    if (quiet) {
      nvme->reset();
    }
    nvme->resume();
    return quiet && !ready();
  }

  /// One admin command to its end. @return how it ended
  nvme::status_code ask(nvme::submission_entry command) {
    command.command_id = ++last_admin_id_;
    place(admin_, command);
    ring_tail(admin_);
    for (int i = 0; i < turns_max; ++i) {
      poll();
      if (const auto answer = take(admin_)) {
        EXPECT_EQ(answer->command_id, command.command_id);
        return static_cast<nvme::status_code>(nvme::status_of(answer->status_and_phase));
      }
    }
    ADD_FAILURE() << "an admin command was not answered";
    return nvme::status_code::internal_error;
  }

  /// Writes a command into its slot, without ringing. @return the slot's address
  std::uint64_t place(const nvme::submission_entry& command) { return place(io, command); }
  void ring() { ring_tail(io); }
  /// The next answer to an I/O command, if there is one.
  std::optional<nvme::completion_entry> take() { return take(answers_); }

  void set_tail(std::uint32_t value) { set_doorbell(2U * io_queue, value); }
  void set_head(std::uint32_t value) { set_doorbell(2U * io_queue + 1, value); }
  void ring_head() { set_head(answers_.head); }
  void set_doorbell(std::size_t index, std::uint32_t value) {
    mmio_write(doorbells_.data() + stride * index, value);
  }

  hostile_memory memory;
  target::subsystem system;
  std::vector<target::namespace_path> paths;
  host_queue io;
  std::optional<target::controller> nvme;

 private:
  static constexpr std::uint32_t stride = cache_line_bytes;
  static constexpr std::uint16_t admin_entries = 16;

  template <class Word>
  void write(nvme::reg where, Word value) {
    nvme->write_register(static_cast<std::size_t>(where), std::as_bytes(std::span{&value, 1}));
  }
  std::uint64_t place(host_queue& queue, const nvme::submission_entry& command) {
    const std::uint64_t slot = queue.submission + std::uint64_t{queue.tail} * sizeof command;
    std::memcpy(memory.at(slot), &command, sizeof command);
    queue.tail = static_cast<std::uint16_t>((queue.tail + 1) % queue.entries);
    return slot;
  }
  void ring_tail(const host_queue& queue) { set_doorbell(2U * queue.id, queue.tail); }
  std::optional<nvme::completion_entry> take(host_queue& queue) {
    nvme::completion_entry entry{};
    std::memcpy(&entry, memory.at(queue.completion + queue.head * sizeof entry), sizeof entry);
    if ((entry.status_and_phase & 1U) != queue.phase) {
      return std::nullopt;
    }
    if (++queue.head == queue.entries) {
      queue.head = 0;
      queue.phase ^= 1U;
    }
    set_doorbell(2U * queue.id + 1, queue.head);
    return entry;
  }

  std::uint16_t cq_entries_;
  std::vector<std::byte> doorbells_;
  target::fake::interrupts lines_;
  host_queue admin_;
  host_queue answers_;  // of `io`, whose rings are of different lengths
  std::uint16_t last_admin_id_ = 100;
  instant now_{};
};

}  // namespace runnel::sim
