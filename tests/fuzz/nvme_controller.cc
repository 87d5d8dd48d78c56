// Goal: a host that does anything in any order never breaks the controller that we serve. Method:
// the input is a program of the host: register accesses, commands, PRP lists, memory that leaves
// and returns, a disk that is late or full. Checked: no crash, no touch of memory that is not
// there, bounded work in a turn, completions of what was submitted and of nothing else.

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <memory>
#include <optional>
#include <vector>

#include "apps/target/controller.h"
#include "apps/target/fake_host.h"
#include "drivers/mmio.h"
#include "drivers/nvme/spec.h"
#include "drivers/nvme/spec_commands.h"
#include "mempool/base/check.h"
#include "tests/fuzz/byte_program.h"
#include "tests/fuzz/completion_check.h"
#include "tests/fuzz/guest.h"
#include "tests/fuzz/host_commands.h"

namespace runnel::fuzz {
namespace {

using nvme::admin_opcode;
using nvme::io_opcode;
using nvme::reg;
using nvme::submission_entry;
using target::fake::disk;

constexpr std::uint16_t io_queues = completion_check::queues - 1;
constexpr std::uint32_t stride = 64;
constexpr std::uint32_t polls_to_settle = 1000;  // 256 ranges of a command one by one, and more
/// What one turn may do: each queue its share and the burst that was begun, each job a step, each
/// disk one look.
constexpr std::uint32_t work_max =
    io_queues * (target::io_path::fetch_max + target::io_path::burst_max) +
    target::io_jobs::jobs_max + 2 * 32 + 1;

/// Two disks with different blocks; made once, empty for every input.
struct storage {
  disk small{512, 512};
  disk large{4096, 8};
  bool written = false;  // since it was cleared

  void clear() {
    for (disk* each : {&small, &large}) {
      if (written) {
        std::memset(each->content(0), 0, each->info().block_bytes * each->info().block_count);
      }
      each->how = disk::mode::in_place;
      each->status = block_status::success;
    }
    written = false;
    let_all_finish();
  }
  void let_all_finish() {
    for (disk* each : {&small, &large}) {
      each->room = 1U << 20U;
      each->may_finish = 1U << 20U;
    }
  }
};

storage& disks() {
  static storage all;
  return all;
}

const target::subsystem& served_system() {
  static const target::subsystem system = [] {
    target::subsystem made;
    made.nqn = "nqn.2014-08.org.nvmexpress:uuid:fuzz";
    made.serial = "S1";
    made.firmware = "1.0";
    made.volatile_cache = true;
    for (disk* each : {&disks().small, &disks().large}) {
      made.namespaces.push_back({each, target::derive_identity(made.nqn, 1, "fuzz")});
    }
    return made;
  }();
  return system;
}

class host {
 public:
  explicit host(byte_program program)
      : program_{program}, doorbells_(2 * stride * (io_queues + 1)) {
    disks().clear();
    for (disk* each : {&disks().small, &disks().large}) {
      paths_.push_back(
          {.queue = std::move(*each->make_queue(64)),
           .block_count = each->info().block_count,
           .block_shift = static_cast<std::uint32_t>(std::countr_zero(each->info().block_bytes))});
    }
    nvme_.emplace(
        served_system(),
        target::controller_options{.id = 1,
                                   .queues = {.io_queues = io_queues,
                                              .entries = 64,
                                              .vectors = 4,
                                              .doorbell_stride_bytes = stride},
                                   .shadow_doorbells = true},
        target::controller_ports{
            .memory = &memory_, .interrupts = &lines_, .paths = paths_, .doorbells = doorbells_});
    check_.emplace(*nvme_, memory_);
    for (std::size_t bank = 0; bank < guest::banks - 2; ++bank) {
      memory_.add(bank, access::read_write);
    }
  }

  void run() {
    while (!program_.empty()) {
      step();
      finish_leaving();
    }
    // Whatever it has begun ends when the disks work and the controller is turned. A host whose
    // shadow doorbells are where completions go would ring for ever.
    nvme_->pause();
    disks().let_all_finish();
    for (std::uint32_t i = 0; i < polls_to_settle && !nvme_->quiet(); ++i) {
      poll();
    }
    CHECK(nvme_->quiet());
    finish_leaving();
    CHECK(!leaving_);
    disks().written |= nvme_->counters().writes != 0 || disks_fail_;
  }

 private:
  void step() {
    switch (program_.below(20)) {
      case 0:
        return write_any_register();
      case 1:
        return read_any_register();
      case 2:
        return enable();
      case 3:
        return create_queues();
      case 4:
      case 5:
        return submit(commands_.admin(), 0);
      case 6:
        return submit(commands_.io(), any_io_queue());
      case 7:
        return submit(build_listed_io(), any_io_queue());
      case 8:
        return ring(program_.take_byte(),
                    program_.rarely(8) ? program_.take<std::uint32_t>() : program_.take_byte());
      case 9:
        return write_list();
      case 10:
        return remove_memory();
      case 11:
        return add_memory();
      case 12:
        return change_disk();
      case 13:
        return change_mode();
      case 14:
        return read_completions();
      case 15:
        return submit_pair();
      case 16:
        return submit_dataset();
      case 17:
        return submit(commands_.abort(any_io_queue()), 0);
      case 18:
        return sleep();
      default:
        for (std::uint32_t count = 1 + program_.below(4); count > 0; --count) {
          poll();
        }
    }
  }

  void poll() {
    const std::uint64_t reads = nvme_->counters().reads;
    if (disks().small.waiting() + disks().large.waiting() == 0) {
      reads_at_rest_ = reads;
    }
    check_->before_poll();
    const std::uint16_t admin_head = nvme_->state().submission_queues[0].head;
    CHECK(nvme_->poll(now_ += nanoseconds{50}) <= work_max);
    const bool disks_read = nvme_->counters().reads != reads_at_rest_ || disks_fail_;
    const bool admin_writes = nvme_->state().submission_queues[0].head != admin_head;
    if (disabling_ && nvme_->quiet()) {
      disabling_ = false;
      check_->forget();
    } else {
      check_->after_poll(!disks_read && !admin_writes);
    }
    static_cast<void>(nvme_->pin_asserted());
  }

  void write_register(std::size_t offset, std::span<const std::byte> value) {
    const nvme::configuration was{nvme_->state().registers.configuration};
    nvme_->write_register(offset, value);
    const nvme::configuration now{nvme_->state().registers.configuration};
    disabling_ |= was.enable() && !now.enable();
    if (disabling_ && nvme_->quiet()) {
      disabling_ = false;
      check_->forget();
    }
  }
  template <class Word>
  void write(reg where, Word value) {
    write_register(static_cast<std::size_t>(where), std::as_bytes(std::span{&value, 1}));
  }

  [[nodiscard]] std::size_t any_offset() {
    constexpr std::array known{reg::cap, reg::vs,  reg::intms, reg::intmc, reg::cc,       reg::csts,
                               reg::aqa, reg::asq, reg::acq,   reg::crto,  reg::doorbells};
    return program_.rarely(4) ? program_.take<std::uint16_t>()
                              : static_cast<std::size_t>(program_.pick(known));
  }
  void write_any_register() {
    constexpr std::array<std::size_t, 6> widths{4, 8, 1, 2, 16, 64};
    const std::size_t offset = any_offset();
    std::array<std::byte, 64> value{};
    const std::size_t width = program_.pick(widths);
    std::ranges::copy(program_.take_bytes(width), value.begin());
    write_register(offset, std::span{value}.first(width));
  }
  void read_any_register() {
    std::array<std::byte, 64> value{};
    const std::size_t offset = any_offset();
    nvme_->read_register(offset, std::span{value}.first(1 + program_.below(64)));
  }

  /// What drivers do; with one thing wrong, now and then.
  void enable() {
    const std::uint32_t entries = 2 + program_.below(32);
    write(reg::aqa, nvme::admin_queue_attributes(entries, 2 + program_.below(32)));
    write(reg::asq, program_.rarely(16) ? commands_.any_address() : commands_.any_page());
    write(reg::acq, program_.rarely(16) ? commands_.any_address() : commands_.any_page());
    const std::uint32_t flaw = program_.rarely(16) ? program_.take<std::uint32_t>() : 0;
    write(reg::cc, nvme::enabled_configuration(4096) ^ flaw);
    tails_ = {};
  }

  void create_queues() {
    const auto id = static_cast<std::uint16_t>(1 + program_.below(io_queues + 1));
    for (const auto opcode : {admin_opcode::create_io_cq, admin_opcode::create_io_sq}) {
      submission_entry command = commands_.named(opcode);
      command.prp1 = commands_.any_page();
      command.cdw10 = nvme::create_queue_cdw10(id, 2 + program_.below(64));
      const std::uint16_t related = opcode == admin_opcode::create_io_sq ? id : 0;
      command.cdw11 = std::uint32_t{related} << 16U | 3U;
      submit(command, 0);
      poll();
    }
    if (id <= io_queues) {
      tails_[id] = 0;
    }
  }

  /// A transfer whose list of pages meets the end of its page, and goes on somewhere, or in itself.
  [[nodiscard]] submission_entry build_listed_io() {
    submission_entry command =
        commands_.named(program_.pick(std::array{io_opcode::read, io_opcode::write}));
    const std::uint64_t page = commands_.any_page();
    const std::uint32_t entries = 1 + program_.below(4);
    command.nsid = 1;
    command.prp1 = commands_.any_page();
    command.prp2 = page + 4096 - entries * sizeof(std::uint64_t);
    command.cdw12 = program_.take_byte();
    for (std::uint32_t i = 0; i < entries; ++i) {
      const std::array<std::uint64_t, 4> leads{commands_.any_page(), page, command.prp2,
                                               commands_.any_address()};
      const std::uint64_t entry = i + 1 < entries ? commands_.any_page() : program_.pick(leads);
      memory_.write(command.prp2 + i * sizeof entry, std::as_bytes(std::span{&entry, 1}));
    }
    return command;
  }

  void submit(const submission_entry& command, std::uint32_t queue) {
    const target::submission_queue_state& sq = nvme_->state().submission_queues[queue];
    if (sq.entries == 0) {
      return;
    }
    std::uint16_t& tail = tails_[queue];
    tail = tail < sq.entries ? tail : std::uint16_t{0};
    memory_.write(raw(sq.base) + std::uint64_t{tail} * sizeof command,
                  std::as_bytes(std::span{&command, 1}));
    tail = static_cast<std::uint16_t>((tail + 1) % sq.entries);
    ring(2 * queue, tail);
  }
  /// The register and, where the host has one, its shadow.
  void ring(std::size_t index, std::uint32_t value) {
    const std::size_t offset = stride * (index % (2 * (io_queues + 1)));
    mmio_write(doorbells_.data() + offset, value);
    if (const auto& shadow = nvme_->state().shadow; shadow.in_use) {
      memory_.write(raw(shadow.doorbells) + offset, std::as_bytes(std::span{&value, 1}));
    }
  }

  [[nodiscard]] std::uint16_t any_io_queue() {
    return static_cast<std::uint16_t>(1 + program_.below(io_queues));
  }
  void submit_pair() {
    const std::uint16_t queue = any_io_queue();
    for (const submission_entry& half : commands_.pair()) {
      submit(half, queue);
    }
  }
  void submit_dataset() {
    const std::uint64_t page = commands_.any_page();
    const std::uint32_t count = 1 + program_.below(256);
    for (std::uint32_t left = std::min(count, 4U); left > 0; --left) {
      const nvme::dataset_range range{
          .attributes = 0,
          .blocks = program_.take_byte(),
          .first = program_.rarely(8) ? program_.take<std::uint64_t>() : program_.take_byte()};
      memory_.write(page + (left - 1) * sizeof range, std::as_bytes(std::span{&range, 1}));
    }
    submit(commands_.dataset(page, count), any_io_queue());
  }

  /// As the core that serves it: asks to be rung, looks once more, and wakes up.
  void sleep() {
    if (nvme_->arm()) {
      poll();
    }
    nvme_->disarm();
  }

  /// Entries of a PRP list, or anything else of 8 bytes; also a list that leads to itself.
  void write_list() {
    std::uint64_t at = commands_.any_address();
    std::uint64_t page = program_.rarely(4) ? at : commands_.any_address();
    commands_.list_is_at(at);
    const std::uint64_t distance = program_.pick(std::array<std::uint64_t, 3>{4096, 0, 1});
    for (std::uint32_t left = 1 + program_.below(40); left > 0; --left) {
      memory_.write(at, std::as_bytes(std::span{&page, 1}));
      at += sizeof page;
      page += distance;
    }
  }

  void remove_memory() {
    const std::size_t bank = program_.below(guest::banks);
    if (!leaving_ && memory_.present(bank)) {
      memory_.withdraw(bank);
      nvme_->memory_leaving();
      leaving_ = bank;
    }
  }
  void finish_leaving() {
    if (leaving_ && nvme_->memory_left()) {
      memory_.release(*leaving_);
      leaving_.reset();
    }
  }
  void add_memory() {
    const std::size_t bank = program_.below(guest::banks);
    constexpr std::array rights{access::read_write, access::read, access::write};
    const access allowed = program_.pick(rights);
    if (leaving_ != bank && !memory_.present(bank)) {
      memory_.add(bank, allowed);
      nvme_->memory_added();
    }
  }

  void change_disk() {
    disk& chosen = program_.below(2) == 0 ? disks().small : disks().large;
    chosen.how = program_.below(2) == 0 ? disk::mode::in_place : disk::mode::delayed;
    chosen.room = program_.take_byte();
    chosen.may_finish = program_.take_byte();
    chosen.status = program_.rarely(4) ? block_status::write_fault : block_status::success;
    disks_fail_ |= chosen.status != block_status::success;
  }

  void change_mode() {
    switch (program_.below(5)) {
      case 0:
        return nvme_->pause();
      case 1:
        return nvme_->resume();
      case 2:
        if (nvme_->quiet()) {
          nvme_->reset();
          disabling_ = false;
          check_->forget();
        }
        return;
      case 3:
        return write<std::uint32_t>(reg::cc, 0);
      default:
        return write(reg::cc, nvme::enabled_configuration(4096) | nvme::cc_shutdown_normal);
    }
  }

  void read_completions() {
    for (std::uint16_t id = 0; id <= io_queues; ++id) {
      ring(2U * id + 1, nvme_->state().completion_queues[id].tail);
    }
  }

  byte_program program_;
  host_commands commands_{program_};
  guest memory_;
  std::vector<std::byte> doorbells_;
  target::fake::interrupts lines_;
  std::vector<target::namespace_path> paths_;
  std::optional<target::controller> nvme_;
  std::optional<completion_check> check_;
  std::array<std::uint16_t, io_queues + 1> tails_{};
  std::optional<std::size_t> leaving_;
  std::uint64_t reads_at_rest_ = 0;
  bool disks_fail_ = false;  // a failed read is not counted as one, but may have written
  bool disabling_ = false;
  instant now_{};
};

}  // namespace
}  // namespace runnel::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  runnel::fuzz::host{runnel::fuzz::byte_program{{data, size}}}.run();
  return 0;
}
