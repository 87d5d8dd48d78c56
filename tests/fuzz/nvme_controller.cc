// Goal: a host that does anything in any order never breaks the controller that we serve. Method:
// the input is a program of the host: register accesses, commands, PRP lists, memory that leaves
// and returns, a disk that is late or full. Checked: no crash, no touch of memory that is not
// there, bounded work in a turn, completions of what was submitted and of nothing else.

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
#include "mempool/base/check.h"
#include "tests/fuzz/byte_program.h"
#include "tests/fuzz/completion_check.h"
#include "tests/fuzz/guest.h"

namespace runnel::fuzz {
namespace {

using nvme::admin_opcode;
using nvme::io_opcode;
using nvme::reg;
using nvme::submission_entry;
using target::fake::disk;

constexpr std::uint16_t io_queues = completion_check::queues - 1;
constexpr std::uint32_t stride = 64;
constexpr std::uint32_t polls_to_settle = 100;
/// What one turn may do: each queue its share and the burst that was begun, each disk one look.
constexpr std::uint32_t work_max =
    io_queues * (target::io_path::fetch_max + target::io_path::burst_max) + 2 * 32 + 1;

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
                                              .doorbell_stride_bytes = stride}},
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
    // Whatever it has begun ends when the disks work and the controller is turned.
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
    switch (program_.below(16)) {
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
        return submit(build_admin(), 0);
      case 6:
        return submit(build_io(), 1 + program_.below(io_queues));
      case 7:
        return submit(build_listed_io(), 1 + program_.below(io_queues));
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
    CHECK(nvme_->poll() <= work_max);
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

  [[nodiscard]] std::uint64_t any_address() { return program_.take_near(guest::base); }
  [[nodiscard]] std::uint64_t any_page() {
    return guest::base + 4096 * program_.below(guest::pages);
  }

  /// What drivers do; with one thing wrong, now and then.
  void enable() {
    const std::uint32_t entries = 2 + program_.below(32);
    write(reg::aqa, nvme::admin_queue_attributes(entries, 2 + program_.below(32)));
    write(reg::asq, program_.rarely(16) ? any_address() : any_page());
    write(reg::acq, program_.rarely(16) ? any_address() : any_page());
    const std::uint32_t flaw = program_.rarely(16) ? program_.take<std::uint32_t>() : 0;
    write(reg::cc, nvme::enabled_configuration(4096) ^ flaw);
    tails_ = {};
  }

  void create_queues() {
    const auto id = static_cast<std::uint16_t>(1 + program_.below(io_queues + 1));
    for (const auto opcode : {admin_opcode::create_io_cq, admin_opcode::create_io_sq}) {
      submission_entry command = named(opcode);
      command.prp1 = any_page();
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

  template <class Opcode>
  [[nodiscard]] submission_entry named(Opcode opcode) {
    submission_entry command{};
    command.opcode = static_cast<std::uint8_t>(opcode);
    command.command_id = next_id_++;
    return command;
  }
  /// @param limit  of the low half, mostly
  [[nodiscard]] std::uint32_t any_dword(std::size_t limit = 256) {
    const auto low = program_.below(limit);
    return program_.rarely(16) ? program_.take<std::uint32_t>()
                               : low | std::uint32_t{program_.take_byte()} << 16U;
  }
  /// Flags and namespace as they should be, mostly, and where the data is.
  void describe(submission_entry& command) {
    constexpr std::array<std::uint32_t, 4> others{0, 3, nvme::nsid_all, nvme::nsid_all - 1};
    command.nsid = program_.rarely(8) ? program_.pick(others) : 1 + program_.below(2);
    command.flags = program_.rarely(16) ? program_.take_byte() : std::uint8_t{0};
    command.prp1 = any_address();
    command.prp2 = program_.below(4) == 0 ? list_at_ : any_address();
  }

  [[nodiscard]] submission_entry build_admin() {
    constexpr std::array known{admin_opcode::delete_io_sq, admin_opcode::create_io_sq,
                               admin_opcode::get_log_page, admin_opcode::delete_io_cq,
                               admin_opcode::create_io_cq, admin_opcode::identify,
                               admin_opcode::abort,        admin_opcode::set_features,
                               admin_opcode::get_features, admin_opcode::async_event_request};
    submission_entry command = named(program_.pick(known));
    describe(command);
    if (program_.rarely(4)) {
      command.nsid = 0;
    }
    command.cdw10 = any_dword(16);  // queues, pages, features: their numbers are small
    command.cdw11 = any_dword();
    command.cdw12 = program_.rarely(8) ? any_dword() : 0;
    return command;
  }
  [[nodiscard]] submission_entry build_io() {
    constexpr std::array known{io_opcode::read, io_opcode::write, io_opcode::flush,
                               io_opcode::compare};
    submission_entry command = named(program_.pick(known));
    describe(command);
    command.cdw10 = program_.take_byte();
    command.cdw11 = program_.rarely(16) ? any_dword() : 0;
    command.cdw12 = program_.rarely(16) ? any_dword() : program_.take_byte();
    command.cdw12 |= program_.rarely(4) ? nvme::io_force_unit_access : 0;
    return command;
  }

  /// A transfer whose list of pages meets the end of its page, and goes on somewhere, or in itself.
  [[nodiscard]] submission_entry build_listed_io() {
    submission_entry command = named(program_.pick(std::array{io_opcode::read, io_opcode::write}));
    const std::uint64_t page = any_page();
    const std::uint32_t entries = 1 + program_.below(4);
    command.nsid = 1;
    command.prp1 = any_page();
    command.prp2 = page + 4096 - entries * sizeof(std::uint64_t);
    command.cdw12 = program_.take_byte();
    for (std::uint32_t i = 0; i < entries; ++i) {
      const std::array<std::uint64_t, 4> leads{any_page(), page, command.prp2, any_address()};
      const std::uint64_t entry = i + 1 < entries ? any_page() : program_.pick(leads);
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
  void ring(std::size_t index, std::uint32_t value) {
    mmio_write(doorbells_.data() + stride * (index % (2 * (io_queues + 1))), value);
  }

  /// Entries of a PRP list, or anything else of 8 bytes; also a list that leads to itself.
  void write_list() {
    std::uint64_t at = any_address();
    std::uint64_t page = program_.rarely(4) ? at : any_address();
    list_at_ = at;
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
  guest memory_;
  std::vector<std::byte> doorbells_;
  target::fake::interrupts lines_;
  std::vector<target::namespace_path> paths_;
  std::optional<target::controller> nvme_;
  std::optional<completion_check> check_;
  std::array<std::uint16_t, io_queues + 1> tails_{};
  std::optional<std::size_t> leaving_;
  std::uint64_t reads_at_rest_ = 0;
  std::uint64_t list_at_ = 0;  // of the last one
  std::uint16_t next_id_ = 1;
  bool disks_fail_ = false;  // a failed read is not counted as one, but may have written
  bool disabling_ = false;
};

}  // namespace
}  // namespace runnel::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  runnel::fuzz::host{runnel::fuzz::byte_program{{data, size}}}.run();
  return 0;
}
