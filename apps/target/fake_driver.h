#pragma once

#include <gtest/gtest.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "apps/target/controller.h"
#include "apps/target/doorbell_area.h"
#include "apps/target/fake_host.h"
#include "apps/target/io_core.h"
#include "drivers/nvme/spec.h"

// For tests: a subsystem with one namespace, its controller, and a driver for it on a fake host.
namespace runnel::target::fake {

/// One queue pair as the host sees it.
struct host_queue {
  std::uint16_t id = 0;
  std::uint16_t entries = 0;
  std::uint64_t submission = 0;  // iova
  std::uint64_t completion = 0;
  std::uint16_t tail = 0;
  std::uint16_t head = 0;
  std::uint16_t phase = 1;
};

/// How a command ended; a failure when it did not.
[[nodiscard]] inline nvme::status_code code(const std::optional<nvme::completion_entry>& answer) {
  EXPECT_TRUE(answer.has_value());
  return answer ? static_cast<nvme::status_code>(nvme::status_of(answer->status_and_phase))
                : nvme::status_code::internal_error;
}

struct machine_options {
  std::uint32_t block_bytes = 512;
  std::uint64_t block_count = 1024;
  std::uint16_t admin_entries = 16;
  std::uint32_t doorbell_stride_bytes = cache_line_bytes;
  bool shadow_doorbells = false;
  bool tells_of_doorbells = true;  // the other cores
  std::size_t others = 0;          // cores that help
};

class machine {
 public:
  static constexpr nanoseconds turn_takes{50};
  static constexpr std::uint64_t ram_bytes = 4 * mib;
  static constexpr std::uint64_t admin_sq = memory::base;
  static constexpr std::uint64_t admin_cq = memory::base + 0x1'0000;
  static constexpr std::uint64_t io_sq = memory::base + 0x10'0000;  // 64 KiB each
  static constexpr std::uint64_t io_cq = memory::base + 0x20'0000;  // 16 KiB each
  static constexpr std::uint64_t data = memory::base + 0x30'0000;   // 1 MiB

  explicit machine(const machine_options& options = {})
      : options_{options},
        ram{ram_bytes},
        ram_region{&ram.add(memory::base, ram_bytes)},
        drive{options.block_bytes, options.block_count},
        doorbells_(doorbell_area::bytes) {
    system.nqn = "nqn.2014-08.org.nvmexpress:uuid:test";
    system.serial = "S1";
    system.firmware = "1.0";
    system.clock = &clock;
    system.add(drive, derive_identity(system.nqn, 1, "fake"));
    paths = make_paths();
    for (std::size_t i = 0; i < options.others; ++i) {
      others.push_back(std::make_unique<io_core>(make_paths(), options.tells_of_doorbells));
      borrowed_others_.push_back(others.back().get());
    }
    restart();
  }
  /// What is in flight ends, as a controller's transport sees to.
  ~machine() {
    drive.may_finish = 1U << 20U;
    others_run = true;
    nvme->pause();
    for (int i = 0; i < 1000 && !nvme->quiet(); ++i) {
      poll(1);
    }
  }
  machine(const machine&) = delete;
  machine& operator=(const machine&) = delete;

  /// A new controller, as for the next client. @pre the last one is quiet
  void restart() {
    nvme.reset();
    nvme.emplace(
        system,
        controller_options{.id = 7,
                           .queues = {.doorbell_stride_bytes = options_.doorbell_stride_bytes},
                           .shadow_doorbells = options_.shadow_doorbells},
        controller_ports{.memory = &ram,
                         .interrupts = &lines,
                         .paths = paths,
                         .doorbells = doorbells_,
                         .others = borrowed_others_,
                         .others_memory = &ram});
  }
  template <class Word>
  void write(nvme::reg where, Word value) {
    nvme->write_register(static_cast<std::size_t>(where), std::as_bytes(std::span{&value, 1}));
  }
  template <class Word>
  [[nodiscard]] Word read(std::size_t offset) const {
    Word value{};
    nvme->read_register(offset, std::as_writable_bytes(std::span{&value, 1}));
    return value;
  }
  [[nodiscard]] std::uint32_t status() const {
    return read<std::uint32_t>(static_cast<std::size_t>(nvme::reg::csts));
  }

  void set_admin_registers() {
    write(nvme::reg::aqa,
          nvme::admin_queue_attributes(options_.admin_entries, options_.admin_entries));
    write(nvme::reg::asq, admin_sq);
    write(nvme::reg::acq, admin_cq);
  }
  void enable() {
    set_admin_registers();
    write(nvme::reg::cc, nvme::enabled_configuration(page_bytes));
    admin = {
        .id = 0, .entries = options_.admin_entries, .submission = admin_sq, .completion = admin_cq};
    std::memset(ram.at(admin_cq), 0, std::size_t{options_.admin_entries} * 16);
  }

  /// Puts a command into the ring and rings. @return its id
  std::uint16_t submit(host_queue& queue, nvme::submission_entry command) {
    place(queue, command);
    ring(queue);
    return command.command_id;
  }
  /// Without ringing.
  void place(host_queue& queue, const nvme::submission_entry& command) {
    std::memcpy(ram.at(queue.submission + std::uint64_t{queue.tail} * 64), &command, 64);
    queue.tail = static_cast<std::uint16_t>((queue.tail + 1) % queue.entries);
  }
  void ring(const host_queue& queue) { set_doorbell(std::size_t{2} * queue.id, queue.tail); }
  void set_doorbell(std::size_t index, std::uint32_t value) {
    mmio_write(doorbells_.data() + options_.doorbell_stride_bytes * index, value);
  }

  /// The next answer, if there is one; tells the controller that it was read.
  std::optional<nvme::completion_entry> take(host_queue& queue) {
    const auto entry = peek(queue);
    if (entry) {
      if (++queue.head == queue.entries) {
        queue.head = 0;
        queue.phase ^= 1U;
      }
      set_doorbell(2U * queue.id + 1, queue.head);
    }
    return entry;
  }
  [[nodiscard]] std::optional<nvme::completion_entry> peek(const host_queue& queue) {
    nvme::completion_entry entry{};
    std::memcpy(&entry, ram.at(queue.completion + std::uint64_t{queue.head} * 16), sizeof entry);
    if ((entry.status_and_phase & 1U) != queue.phase) {
      return std::nullopt;
    }
    return entry;
  }

  [[nodiscard]] std::span<std::byte> doorbells() noexcept { return doorbells_; }

  void poll(unsigned turns = 4) {
    for (unsigned i = 0; i < turns; ++i) {
      clock.advance_to(clock.now() + turn_takes);
      nvme->poll(clock.now());
      for (const auto& each : others) {
        if (others_run) {
          each->poll(clock.now());
        }
      }
    }
  }

  /// Long enough that what the host has not read by itself is told to it: its head is looked at
  /// twice.
  void poll_patiently() {
    for (int look = 0; look < 2; ++look) {
      poll(1);
      clock.advance_to(clock.now() + std::chrono::microseconds{20});
      poll(1);
    }
  }

  /// Executes one admin command. @return its answer, empty when it is held
  std::optional<nvme::completion_entry> execute(nvme::submission_entry command) {
    command.command_id = next_id_++;
    submit(admin, command);
    poll();
    const auto answer = take(admin);
    if (answer) {
      EXPECT_EQ(answer->command_id, command.command_id);
    }
    return answer;
  }
  [[nodiscard]] nvme::status_code execute_status(const nvme::submission_entry& command) {
    const auto answer = execute(command);
    EXPECT_TRUE(answer.has_value());
    return answer ? static_cast<nvme::status_code>(nvme::status_of(answer->status_and_phase))
                  : nvme::status_code::internal_error;
  }

  /// An admin command with the two pages of `data` for what it moves.
  [[nodiscard]] static nvme::submission_entry order(nvme::admin_opcode what,
                                                    std::uint32_t cdw10 = 0,
                                                    std::uint32_t cdw11 = 0) {
    nvme::submission_entry command{};
    command.opcode = static_cast<std::uint8_t>(what);
    command.prp1 = data;
    command.prp2 = data + 0x1000;
    command.cdw10 = cdw10;
    command.cdw11 = cdw11;
    return command;
  }
  [[nodiscard]] static nvme::submission_entry create_cq(std::uint16_t id, std::uint32_t entries,
                                                        std::uint64_t where,
                                                        std::uint32_t cdw11 = 1) {
    nvme::submission_entry command{};
    command.opcode = static_cast<std::uint8_t>(nvme::admin_opcode::create_io_cq);
    command.prp1 = where;
    command.cdw10 = nvme::create_queue_cdw10(id, entries);
    command.cdw11 = cdw11;
    return command;
  }
  [[nodiscard]] static nvme::submission_entry create_sq(std::uint16_t id, std::uint32_t entries,
                                                        std::uint64_t where, std::uint16_t cq,
                                                        std::uint32_t flags = 1) {
    nvme::submission_entry command{};
    command.opcode = static_cast<std::uint8_t>(nvme::admin_opcode::create_io_sq);
    command.prp1 = where;
    command.cdw10 = nvme::create_queue_cdw10(id, entries);
    command.cdw11 = flags | std::uint32_t{cq} << 16U;
    return command;
  }
  [[nodiscard]] static nvme::submission_entry delete_queue(nvme::admin_opcode which,
                                                           std::uint16_t id) {
    nvme::submission_entry command{};
    command.opcode = static_cast<std::uint8_t>(which);
    command.cdw10 = id;
    return command;
  }

  /// A working pair. @param cdw11  of the completion queue; 3: with interrupts
  host_queue make_pair(std::uint16_t id, std::uint16_t entries, std::uint32_t cdw11 = 1) {
    const host_queue queue{.id = id,
                           .entries = entries,
                           .submission = io_sq + std::uint64_t{id} * 0x1'0000,
                           .completion = io_cq + std::uint64_t{id} * 0x4000};
    std::memset(ram.at(queue.completion), 0, 0x4000);
    EXPECT_EQ(execute_status(create_cq(id, entries, queue.completion, cdw11)),
              nvme::status_code::success);
    EXPECT_EQ(execute_status(create_sq(id, entries, queue.submission, id)),
              nvme::status_code::success);
    return queue;
  }

  [[nodiscard]] static nvme::submission_entry io(nvme::io_opcode what, std::uint64_t first,
                                                 std::uint32_t blocks, std::uint64_t prp1,
                                                 std::uint64_t prp2 = 0) {
    nvme::submission_entry command{};
    command.opcode = static_cast<std::uint8_t>(what);
    command.command_id = static_cast<std::uint16_t>(first);
    command.nsid = 1;
    command.prp1 = prp1;
    command.prp2 = prp2;
    command.cdw10 = static_cast<std::uint32_t>(first);
    command.cdw11 = static_cast<std::uint32_t>(first >> 32U);
    command.cdw12 = blocks - 1;
    return command;
  }

 private:
  [[nodiscard]] std::vector<namespace_path> make_paths() {
    std::vector<namespace_path> made;
    made.push_back(
        {.queue = std::move(*drive.make_queue(128)),
         .block_count = options_.block_count,
         .block_shift = static_cast<std::uint32_t>(std::countr_zero(options_.block_bytes))});
    return made;
  }

  machine_options options_;
  std::uint16_t next_id_ = 100;

 public:
  memory ram;
  const region* ram_region;
  disk drive;
  interrupts lines;
  virtual_clock clock;
  subsystem system;
  std::vector<namespace_path> paths;
  std::vector<std::unique_ptr<io_core>> others;
  bool others_run = true;  // in `poll`
  host_queue admin;

 private:
  std::vector<io_core*> borrowed_others_;
  std::vector<std::byte> doorbells_;

 public:
  std::optional<controller> nvme;
};

}  // namespace runnel::target::fake
