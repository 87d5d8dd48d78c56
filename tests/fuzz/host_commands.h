#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "drivers/nvme/spec.h"
#include "drivers/nvme/spec_commands.h"
#include "tests/fuzz/byte_program.h"
#include "tests/fuzz/guest.h"

namespace runnel::fuzz {

/// Makes the commands of a host from its program: right, mostly.
class host_commands {
 public:
  explicit host_commands(byte_program& program) noexcept : program_{program} {}

  [[nodiscard]] std::uint64_t any_address() { return program_.take_near(guest::base); }
  [[nodiscard]] std::uint64_t any_page() {
    return guest::base + 4096 * program_.below(guest::pages);
  }
  /// Where the last PRP list was written.
  void list_is_at(std::uint64_t address) noexcept { list_at_ = address; }

  template <class Opcode>
  [[nodiscard]] nvme::submission_entry named(Opcode opcode) {
    nvme::submission_entry command{};
    command.opcode = static_cast<std::uint8_t>(opcode);
    command.command_id = next_id_++;
    return command;
  }

  [[nodiscard]] nvme::submission_entry admin() {
    using enum nvme::admin_opcode;
    constexpr std::array known{delete_io_sq, create_io_sq,           get_log_page,
                               delete_io_cq, create_io_cq,           identify,
                               abort,        set_features,           get_features,
                               get_features, set_features,           async_event_request,
                               keep_alive,   doorbell_buffer_config, format_nvm};
    const auto opcode = program_.pick(known);  // features twice, for they are many
    nvme::submission_entry command = named(opcode);
    describe(command);
    if (program_.rarely(4)) {
      command.nsid = 0;
    }
    command.cdw10 = any_dword(32);  // queues, pages: their numbers are small
    command.cdw11 = any_dword();
    command.cdw12 = program_.rarely(8) ? any_dword() : 0;
    if (opcode == set_features || opcode == get_features) {
      command.cdw10 = any_feature();
    }
    return command;
  }

  [[nodiscard]] nvme::submission_entry io() {
    using enum nvme::io_opcode;
    constexpr std::array known{read, write, flush, compare, write_zeroes, verify};
    nvme::submission_entry command = named(program_.pick(known));
    describe(command);
    command.cdw10 = program_.take_byte();
    command.cdw11 = program_.rarely(16) ? any_dword() : 0;
    command.cdw12 = program_.rarely(16) ? any_dword() : program_.take_byte();
    command.cdw12 |= program_.rarely(4) ? nvme::io_force_unit_access : 0;
    return command;
  }

  /// @param ranges  where they were written
  [[nodiscard]] nvme::submission_entry dataset(std::uint64_t ranges, std::uint32_t count) {
    nvme::submission_entry command = named(nvme::io_opcode::dataset_management);
    describe(command);
    command.prp1 = ranges;
    command.cdw10 = count - 1;
    command.cdw11 = program_.rarely(16) ? any_dword() : nvme::dataset_deallocate;
    return command;
  }

  /// Compare and write; now and then they are not of one another.
  [[nodiscard]] std::array<nvme::submission_entry, 2> pair() {
    std::array both{named(nvme::io_opcode::compare), named(nvme::io_opcode::write)};
    describe(both[0]);
    both[0].cdw10 = program_.take_byte();
    both[0].cdw12 = program_.below(4);
    for (std::size_t i = 0; i < both.size(); ++i) {
      both[i].nsid = both[0].nsid;
      both[i].prp1 = any_page();
      both[i].cdw10 = both[0].cdw10;
      both[i].cdw12 = both[0].cdw12;
      both[i].flags = i == 0 ? nvme::fused_first : nvme::fused_second;
    }
    if (program_.rarely(4)) {
      both[program_.below(2)] = io();
    }
    return both;
  }

  /// Of a command that was sent a moment ago.
  [[nodiscard]] nvme::submission_entry abort(std::uint16_t queue) {
    const auto which = static_cast<std::uint16_t>(next_id_ - 1 - program_.below(8));
    nvme::submission_entry command = named(nvme::admin_opcode::abort);
    command.cdw10 = queue | std::uint32_t{which} << 16U;
    return command;
  }

 private:
  /// @param limit  of the low half, mostly
  [[nodiscard]] std::uint32_t any_dword(std::size_t limit = 256) {
    const auto low = program_.below(limit);
    return program_.rarely(16) ? program_.take<std::uint32_t>()
                               : low | std::uint32_t{program_.take_byte()} << 16U;
  }
  /// Its number, and how it is asked for or kept.
  [[nodiscard]] std::uint32_t any_feature() {
    const std::uint32_t number = program_.below(18);
    return (number == 17 ? static_cast<std::uint32_t>(nvme::feature::host_identifier) : number) |
           program_.below(5) << 8U | (program_.rarely(16) ? nvme::feature_save : 0U);
  }
  /// Flags and namespace as they should be, mostly, and where the data is.
  void describe(nvme::submission_entry& command) {
    constexpr std::array<std::uint32_t, 4> others{0, 3, nvme::nsid_all, nvme::nsid_all - 1};
    command.nsid = program_.rarely(8) ? program_.pick(others) : 1 + program_.below(2);
    command.flags = program_.rarely(16) ? program_.take_byte() : std::uint8_t{0};
    command.prp1 = any_address();
    command.prp2 = program_.below(4) == 0 ? list_at_ : any_address();
  }

  byte_program& program_;
  std::uint64_t list_at_ = 0;
  std::uint16_t next_id_ = 1;
};

}  // namespace runnel::fuzz
