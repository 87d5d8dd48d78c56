// Goal: every admin and I/O command that the controller offers or refuses ends with the status that
// the specification gives it. Method: one table, a row for each case, each on a fresh machine, on
// both block sizes; the disk has 1024 blocks, the largest transfer is 128 KiB.

#include <gtest/gtest.h>

#include <cstring>
#include <span>

#include "apps/target/fake_driver.h"
#include "drivers/nvme/spec_commands.h"
#include "drivers/nvme/spec_logs.h"

namespace runnel::target::command_table {  // its short names are its own
namespace {

using fake::machine;
using nvme::admin_opcode;
using nvme::feature;
using nvme::identify_cns;
using nvme::io_opcode;
using nvme::log_page;
using nvme::status_code;

/// A command, built field by field. Data is at machine::data, two pages in a row.
struct order {
  nvme::submission_entry entry{};
  bool is_io = false;

  order nsid(std::uint32_t value) const { return with(&nvme::submission_entry::nsid, value); }
  order flags(std::uint8_t value) const { return with(&nvme::submission_entry::flags, value); }
  order prp1(std::uint64_t value) const { return with(&nvme::submission_entry::prp1, value); }
  order prp2(std::uint64_t value) const { return with(&nvme::submission_entry::prp2, value); }
  order cdw10(std::uint32_t value) const { return with(&nvme::submission_entry::cdw10, value); }
  order cdw11(std::uint32_t value) const { return with(&nvme::submission_entry::cdw11, value); }
  order cdw12(std::uint32_t value) const { return with(&nvme::submission_entry::cdw12, value); }
  order cdw13(std::uint32_t value) const { return with(&nvme::submission_entry::cdw13, value); }
  order cdw14(std::uint32_t value) const { return with(&nvme::submission_entry::cdw14, value); }
  order add12(std::uint32_t bits) const { return cdw12(entry.cdw12 | bits); }

 private:
  template <class Value>
  order with(Value nvme::submission_entry::* field, Value value) const {
    order changed = *this;
    changed.entry.*field = value;
    return changed;
  }
};

order admin(unsigned opcode) {
  order made;
  made.entry.opcode = static_cast<std::uint8_t>(opcode);
  made.entry.prp1 = machine::data;
  made.entry.prp2 = machine::data + 0x1000;
  return made;
}
order admin(admin_opcode opcode) {
  return admin(static_cast<unsigned>(opcode));
}
order io(unsigned opcode, std::uint64_t first = 0, std::uint32_t blocks = 1) {
  order made{.entry = machine::io(static_cast<io_opcode>(opcode), first, blocks, machine::data,
                                  machine::data + 0x1000),
             .is_io = true};
  return made;
}
order io(io_opcode opcode, std::uint64_t first = 0, std::uint32_t blocks = 1) {
  return io(static_cast<unsigned>(opcode), first, blocks);
}
order identify(identify_cns what, std::uint32_t nsid = 0) {
  return admin(admin_opcode::identify).cdw10(static_cast<std::uint32_t>(what)).nsid(nsid);
}
order log(log_page which, std::uint32_t bytes = 64) {
  return admin(admin_opcode::get_log_page)
      .cdw10(static_cast<std::uint32_t>(which) | (bytes / 4 - 1) << 16U)
      .nsid(nvme::nsid_all);
}
order get(feature which, std::uint32_t select = 0) {
  return admin(admin_opcode::get_features).cdw10(static_cast<std::uint32_t>(which) | select << 8U);
}
order set(feature which, std::uint32_t value = 0) {
  return admin(admin_opcode::set_features).cdw10(static_cast<std::uint32_t>(which)).cdw11(value);
}
order save(feature which) {
  return admin(admin_opcode::set_features)
      .cdw10(static_cast<std::uint32_t>(which) | nvme::feature_save);
}
order dataset(std::uint32_t ranges, std::uint32_t attributes) {
  return io(io_opcode::dataset_management).cdw10(ranges - 1).cdw11(attributes).cdw12(0);
}

struct row {
  const char* what;
  order command;
  status_code expected;
};

constexpr status_code ok = status_code::success;
constexpr status_code field = status_code::invalid_field;
constexpr status_code opcode = status_code::invalid_opcode;
constexpr status_code space = status_code::invalid_namespace_or_format;
constexpr status_code beyond = status_code::lba_out_of_range;
constexpr status_code nowhere = status_code::data_transfer_error;
constexpr status_code offset = status_code::prp_offset_invalid;
constexpr status_code no_log = status_code::invalid_log_page;
constexpr status_code no_save = status_code::feature_not_saveable;
constexpr status_code missing = status_code::fused_missing;
constexpr status_code id = status_code::invalid_queue_id;

constexpr std::uint32_t fua = nvme::io_force_unit_access;
constexpr std::uint32_t retry = nvme::io_limited_retry;
constexpr std::uint32_t protection = nvme::io_protection_mask;
constexpr std::uint32_t directive = 1U << 20U;
constexpr std::uint32_t hole = nvme::write_zeroes_deallocate;
constexpr std::uint32_t give_up = nvme::dataset_deallocate;
constexpr std::uint32_t all = nvme::nsid_all;

const row io_rows[] = {
    {"flush", io(io_opcode::flush), ok},
    {"flush of all namespaces", io(io_opcode::flush).nsid(all), ok},
    {"flush of no namespace", io(io_opcode::flush).nsid(0), space},
    {"flush of another namespace", io(io_opcode::flush).nsid(2), space},
    {"flush with an SGL", io(io_opcode::flush).flags(0x40), field},

    {"read", io(io_opcode::read, 1023), ok},
    {"read, forced, retried, protected", io(io_opcode::read).add12(fua | retry | protection), ok},
    {"read of no namespace", io(io_opcode::read).nsid(0), space},
    {"read of all namespaces", io(io_opcode::read).nsid(all), space},
    {"read behind the end", io(io_opcode::read, 1024), beyond},
    {"read across the end", io(io_opcode::read, 1023, 2), beyond},
    {"read that wraps", io(io_opcode::read, ~std::uint64_t{0}, 2), beyond},
    {"read of more than MDTS", io(io_opcode::read, 0, 512), field},
    {"read to nowhere", io(io_opcode::read).prp1(0x1000), nowhere},
    {"read to an odd address", io(io_opcode::read).prp1(machine::data + 1), offset},
    {"read with an SGL", io(io_opcode::read).flags(0x80), field},
    {"read, first of a pair", io(io_opcode::read).flags(1), missing},
    {"read, second of a pair", io(io_opcode::read).flags(2), missing},
    {"read, fused value 3", io(io_opcode::read).flags(3), field},

    {"write", io(io_opcode::write, 1023), ok},
    {"write, forced, retried, protected", io(io_opcode::write).add12(fua | retry | protection), ok},
    {"write with a directive", io(io_opcode::write).add12(directive), field},
    {"write of no namespace", io(io_opcode::write).nsid(0), space},
    {"write across the end", io(io_opcode::write, 1023, 2), beyond},
    {"write of more than MDTS", io(io_opcode::write, 0, 512), field},
    {"write from nowhere", io(io_opcode::write).prp1(0), nowhere},

    {"compare with what is there", io(io_opcode::compare), ok},
    {"compare with something else", io(io_opcode::compare).prp1(machine::data + 0x2000),
     status_code::compare_failure},
    {"compare, forced, retried", io(io_opcode::compare).add12(fua | retry), ok},
    {"compare across the end", io(io_opcode::compare, 1023, 2), beyond},
    {"compare of more than MDTS", io(io_opcode::compare, 0, 512), field},
    {"compare of no namespace", io(io_opcode::compare).nsid(0), space},
    {"compare with nowhere", io(io_opcode::compare).prp1(0), nowhere},
    {"compare with an odd address", io(io_opcode::compare).prp1(machine::data + 2), offset},
    {"compare with an SGL", io(io_opcode::compare).flags(0x40), field},
    {"compare, first of a pair, alone", io(io_opcode::compare).flags(1), missing},

    {"write zeroes", io(io_opcode::write_zeroes, 1023), ok},
    {"write zeroes to all blocks", io(io_opcode::write_zeroes, 0, 1024), ok},
    {"write zeroes and deallocate", io(io_opcode::write_zeroes, 3, 9).add12(hole), ok},
    {"write zeroes, forced", io(io_opcode::write_zeroes).add12(fua | retry), ok},
    {"write zeroes, any PRP", io(io_opcode::write_zeroes).prp1(1).prp2(1), ok},
    {"write zeroes across the end", io(io_opcode::write_zeroes, 1023, 2), beyond},
    {"deallocate across the end", io(io_opcode::write_zeroes, 1023, 2).add12(hole), beyond},
    {"write zeroes of no namespace", io(io_opcode::write_zeroes).nsid(0), space},
    {"write zeroes of all", io(io_opcode::write_zeroes).nsid(all), space},

    {"dataset, a range of nothing", dataset(1, give_up), ok},
    {"dataset, 256 ranges of nothing", dataset(256, give_up), ok},
    {"dataset, hints only", dataset(1, 3), ok},
    {"dataset, a range behind the end", dataset(1, give_up).prp1(machine::data + 0x2000), beyond},
    {"dataset, ranges nowhere", dataset(1, give_up).prp1(0x1000), nowhere},
    {"dataset, ranges at an odd address", dataset(1, give_up).prp1(machine::data + 2), offset},
    {"dataset, second page nowhere", dataset(256, give_up).prp1(machine::data + 0x800).prp2(0),
     nowhere},
    {"dataset of no namespace", dataset(1, give_up).nsid(0), space},
    {"dataset with an SGL", dataset(1, give_up).flags(0x40), field},

    {"verify", io(io_opcode::verify, 1023), ok},
    {"verify all blocks", io(io_opcode::verify, 0, 1024), ok},
    {"verify, forced, retried", io(io_opcode::verify).add12(fua | retry), ok},
    {"verify across the end", io(io_opcode::verify, 1, 1024), beyond},
    {"verify of no namespace", io(io_opcode::verify).nsid(0), space},

    {"write uncorrectable", io(io_opcode::write_uncorrectable), opcode},
    {"reservation register", io(0x0dU), opcode},
    {"reservation report", io(0x0eU), opcode},
    {"reservation acquire", io(0x11U), opcode},
    {"I/O management receive", io(0x12U), opcode},
    {"reservation release", io(0x15U), opcode},
    {"copy", io(io_opcode::copy), opcode},
    {"zone management send", io(0x79U), opcode},
    {"zone management receive", io(0x7aU), opcode},
    {"zone append", io(0x7dU), opcode},
    {"a vendor's command", io(0x80U), opcode},
    {"a command of no namespace that is not there", io(0x7fU).nsid(0), opcode},
};

const row identify_rows[] = {
    {"controller", identify(identify_cns::controller), ok},
    {"namespace", identify(identify_cns::namespace_nvm, 1), ok},
    {"namespace 0", identify(identify_cns::namespace_nvm, 0), space},
    {"namespace 2", identify(identify_cns::namespace_nvm, 2), space},
    {"what all namespaces have", identify(identify_cns::namespace_nvm, all), space},
    {"list from 0", identify(identify_cns::active_namespaces, 0), ok},
    {"list from the last id", identify(identify_cns::active_namespaces, 0xfffffffd), ok},
    {"list from fffffffe", identify(identify_cns::active_namespaces, 0xfffffffe), space},
    {"list from ffffffff", identify(identify_cns::active_namespaces, all), space},
    {"ids", identify(identify_cns::namespace_descriptors, 1), ok},
    {"ids of namespace 2", identify(identify_cns::namespace_descriptors, 2), space},
    {"NVM sets", identify(identify_cns::nvm_set_list), field},
    {"namespace, NVM", identify(identify_cns::namespace_command_set, 1), ok},
    {"namespace 2, NVM", identify(identify_cns::namespace_command_set, 2), space},
    {"namespace, zoned", identify(identify_cns::namespace_command_set, 1).cdw11(2U << 24U), field},
    {"controller, NVM", identify(identify_cns::controller_command_set), ok},
    {"controller, key value", identify(identify_cns::controller_command_set).cdw11(1U << 24U),
     field},
    {"list, NVM", identify(identify_cns::active_namespaces_command_set, 0), ok},
    {"list, NVM, from ffffffff", identify(identify_cns::active_namespaces_command_set, all), space},
    {"list, zoned", identify(identify_cns::active_namespaces_command_set).cdw11(2U << 24U), field},
    {"namespace, of any set", identify(identify_cns::namespace_independent, 1), ok},
    {"namespace 2, of any set", identify(identify_cns::namespace_independent, 2), space},
    {"allocated namespaces", identify(identify_cns::allocated_namespaces), field},
    {"allocated namespace", identify(identify_cns::allocated_namespace, 1), field},
    {"controllers of a namespace", identify(identify_cns::attached_controllers, 1), field},
    {"controllers", identify(identify_cns::controllers), field},
    {"command sets of this controller", identify(identify_cns::command_sets).cdw10(0xffff001c), ok},
    {"command sets by its id", identify(identify_cns::command_sets).cdw10(0x0007001c), ok},
    {"command sets of another", identify(identify_cns::command_sets).cdw10(0x0008001c), field},
    {"unknown", identify(static_cast<identify_cns>(0x99)), field},
    {"to nowhere", identify(identify_cns::controller).prp1(0), nowhere},
    {"to an odd address", identify(identify_cns::controller).prp1(machine::data + 2), offset},
    {"with an SGL", identify(identify_cns::controller).flags(0x40), field},
    {"fused", identify(identify_cns::controller).flags(1), field},
};

const row log_rows[] = {
    {"supported pages", log(log_page::supported_pages, 1024), ok},
    {"errors", log(log_page::error_information, 1024), ok},
    {"health", log(log_page::health_information, 512), ok},
    {"health, namespace 0", log(log_page::health_information).nsid(0), ok},
    {"health of one namespace", log(log_page::health_information).nsid(1), field},
    {"firmware", log(log_page::firmware_slots, 512), ok},
    {"changed namespaces", log(log_page::changed_namespaces, 4096), ok},
    {"effects", log(log_page::commands_and_effects, 4096), ok},
    {"effects, zoned", log(log_page::commands_and_effects).cdw14(2U << 24U), field},
    {"self-test", log(log_page::device_self_test), no_log},
    {"telemetry", log(log_page{0x07}), no_log},
    {"endurance group", log(log_page{0x09}), no_log},
    {"asymmetric access", log(log_page{0x0c}), no_log},
    {"persistent events", log(log_page{0x0d}), no_log},
    {"feature effects", log(nvme::feature_effects_page, 1024), ok},
    {"management effects", log(nvme::management_effects_page, 4096), ok},
    {"reservations", log(log_page{0x80}), no_log},
    {"sanitize", log(log_page{0x81}), no_log},
    {"a vendor's", log(log_page{0xc0}), no_log},
    {"its last dword", log(log_page::health_information, 4).cdw12(508), ok},
    {"its end", log(log_page::health_information, 4).cdw12(512), ok},
    {"behind its end", log(log_page::health_information, 4).cdw12(516), field},
    {"an odd offset", log(log_page::health_information).cdw12(2), field},
    {"an offset of 2^32", log(log_page::health_information).cdw13(1), field},
    {"an offset by index", log(log_page::error_information).cdw14(1U << 23U), field},
    {"16 GiB", log(log_page::health_information).cdw11(0xffff), field},
    {"more than MDTS", log(log_page::health_information, 128 * 1024 + 4), field},
    {"to nowhere", log(log_page::health_information).prp1(0x1000), nowhere},
    {"to an odd address", log(log_page::health_information).prp1(machine::data + 1), offset},
};

const row feature_rows[] = {
    {"get 0", get(feature{0}), field},
    {"get arbitration", get(feature::arbitration), ok},
    {"get power management", get(feature::power_management), ok},
    {"get LBA ranges", get(feature::lba_range_type), field},
    {"get temperature threshold", get(feature::temperature_threshold), ok},
    {"get threshold of a sensor", get(feature::temperature_threshold).cdw11(1U << 16U), field},
    {"get error recovery", get(feature::error_recovery), ok},
    {"get write cache", get(feature::volatile_write_cache), ok},
    {"get queues", get(feature::number_of_queues), ok},
    {"get coalescing", get(feature::interrupt_coalescing), ok},
    {"get vector", get(feature::interrupt_vector).cdw11(127), ok},
    {"get vector 128", get(feature::interrupt_vector).cdw11(128), field},
    {"get write atomicity", get(feature::write_atomicity), ok},
    {"get event configuration", get(feature::async_event_configuration), ok},
    {"get power transitions", get(feature::autonomous_power_state), field},
    {"get host memory", get(feature::host_memory_buffer), field},
    {"get timestamp", get(feature::timestamp), ok},
    {"get timestamp to nowhere", get(feature::timestamp).prp1(0), nowhere},
    {"get keep alive", get(feature::keep_alive_timer), field},
    {"get sanitize configuration", get(feature{0x17}), field},
    {"get command set profile", get(feature{0x19}), field},
    {"get software progress", get(feature::software_progress), field},
    {"get host identifier", get(feature::host_identifier), ok},
    {"get long host identifier", get(feature::host_identifier).cdw11(1), ok},
    {"get reservation persistence", get(feature{0x83}), field},
    {"get write protection", get(feature{0x84}), field},
    {"get initial value", get(feature::temperature_threshold, 1), ok},
    {"get saved value", get(feature::temperature_threshold, 2), ok},
    {"get capabilities", get(feature::temperature_threshold, 3), ok},
    {"get capabilities of data", get(feature::timestamp, 3).prp1(0), ok},
    {"get select 4", get(feature::temperature_threshold, 4), field},
    {"get select 7", get(feature::temperature_threshold, 7), field},

    {"set arbitration", set(feature::arbitration, 0x07070704), ok},
    {"set power state 0", set(feature::power_management), ok},
    {"set power state 1", set(feature::power_management, 1), field},
    {"set over threshold", set(feature::temperature_threshold, 300), ok},
    {"set under threshold", set(feature::temperature_threshold, 1U << 20U | 200), ok},
    {"set threshold of a kind", set(feature::temperature_threshold, 2U << 20U), field},
    {"set threshold of a sensor", set(feature::temperature_threshold, 8U << 16U), field},
    {"set error recovery", set(feature::error_recovery, 100), ok},
    {"set error recovery of namespace 1", set(feature::error_recovery, 100).nsid(1), ok},
    {"set error recovery of namespace 2", set(feature::error_recovery, 100).nsid(2), space},
    {"set errors on deallocated", set(feature::error_recovery, 1U << 16U), field},
    {"set write cache", set(feature::volatile_write_cache, 0), ok},
    {"set queues when there are some", set(feature::number_of_queues, 0x00030003),
     status_code::command_sequence_error},
    {"set 65536 queues", set(feature::number_of_queues, 0xffff), field},
    {"set coalescing", set(feature::interrupt_coalescing, 0x0108), ok},
    {"set vector", set(feature::interrupt_vector, 1U << 16U | 5), ok},
    {"set vector 128", set(feature::interrupt_vector, 128), field},
    {"set write atomicity", set(feature::write_atomicity, 1), ok},
    {"set event configuration", set(feature::async_event_configuration, 0x1ff), ok},
    {"set timestamp", set(feature::timestamp), ok},
    {"set timestamp from nowhere", set(feature::timestamp).prp1(0), nowhere},
    {"set host identifier", set(feature::host_identifier, 1), ok},
    {"set host identifier from an odd address",
     set(feature::host_identifier).prp1(machine::data + 1), offset},
    {"set power transitions", set(feature::autonomous_power_state), field},
    {"set host memory", set(feature::host_memory_buffer), field},
    {"set keep alive", set(feature::keep_alive_timer), field},
    {"set software progress", set(feature::software_progress), field},
    {"set write protection", set(feature{0x84}), field},
    {"set arbitration of namespace 1", set(feature::arbitration).nsid(1),
     status_code::feature_not_namespace_specific},
    {"set arbitration of namespace 2", set(feature::arbitration).nsid(2), space},
    {"set arbitration of all", set(feature::arbitration).nsid(all), ok},
    {"save arbitration", save(feature::arbitration), no_save},
    {"save write cache", save(feature::volatile_write_cache), no_save},
    {"save timestamp", save(feature::timestamp), no_save},
    {"save what there is not", save(feature::keep_alive_timer), field},
};

const row admin_rows[] = {
    {"abort", admin(admin_opcode::abort).cdw10(1), ok},
    {"abort in a queue that is not there", admin(admin_opcode::abort).cdw10(0xffff), ok},
    {"abort, fused", admin(admin_opcode::abort).flags(1), field},
    {"delete SQ 0", admin(admin_opcode::delete_io_sq).cdw10(0), id},
    {"delete SQ 1", admin(admin_opcode::delete_io_sq).cdw10(1), ok},
    {"delete SQ 9", admin(admin_opcode::delete_io_sq).cdw10(9), id},
    {"delete CQ 0", admin(admin_opcode::delete_io_cq).cdw10(0), id},
    {"delete CQ 1 in use", admin(admin_opcode::delete_io_cq).cdw10(1),
     status_code::invalid_queue_deletion},
    {"delete CQ 9", admin(admin_opcode::delete_io_cq).cdw10(9), id},
    {"create CQ 2", {.entry = machine::create_cq(2, 8, machine::io_cq)}, ok},
    {"create CQ 1 again", {.entry = machine::create_cq(1, 8, machine::io_cq)}, id},
    {"create CQ of 1",
     {.entry = machine::create_cq(2, 1, machine::io_cq)},
     status_code::invalid_queue_size},
    {"create SQ 2", {.entry = machine::create_sq(2, 8, machine::io_sq, 1)}, ok},
    {"create SQ without CQ",
     {.entry = machine::create_sq(2, 8, machine::io_sq, 2)},
     status_code::cq_invalid},
    {"namespace management", admin(admin_opcode::namespace_management), opcode},
    {"firmware commit", admin(admin_opcode::firmware_commit), opcode},
    {"firmware download", admin(admin_opcode::firmware_download), opcode},
    {"self-test", admin(admin_opcode::device_self_test), opcode},
    {"namespace attachment", admin(admin_opcode::namespace_attachment), opcode},
    {"keep alive", admin(admin_opcode::keep_alive), opcode},
    {"directive send", admin(admin_opcode::directive_send), opcode},
    {"directive receive", admin(admin_opcode::directive_receive), opcode},
    {"virtualization management", admin(0x1cU), opcode},
    {"management send", admin(0x1dU), opcode},
    {"management receive", admin(0x1eU), opcode},
    {"capacity management", admin(0x20U), opcode},
    {"lockdown", admin(0x24U), opcode},
    {"doorbell buffers, not offered", admin(admin_opcode::doorbell_buffer_config), opcode},
    {"a fabrics command", admin(0x7fU), opcode},
    {"format", admin(admin_opcode::format_nvm).nsid(1), opcode},
    {"security send", admin(admin_opcode::security_send), opcode},
    {"security receive", admin(admin_opcode::security_receive), opcode},
    {"sanitize", admin(admin_opcode::sanitize), opcode},
    {"get LBA status", admin(0x86U), opcode},
    {"a vendor's command", admin(0xc0U), opcode},
};

class CommandTable : public testing::TestWithParam<std::uint32_t> {
 protected:
  static void check(std::span<const row> rows) {
    for (const row& each : rows) {
      EXPECT_EQ(run(each.command), each.expected) << each.what;
    }
  }
  static status_code run(const order& command) {
    machine host{{.block_bytes = GetParam(), .block_count = 1024}};
    host.enable();
    fake::host_queue queue = host.make_pair(1, 16);
    std::memset(host.ram.at(machine::data + 0x2000), 0xff, 0x1000);
    if (!command.is_io) {
      return host.execute_status(command.entry);
    }
    host.submit(queue, command.entry);
    host.poll(8);
    const auto answer = host.take(queue);
    EXPECT_TRUE(answer.has_value());
    EXPECT_FALSE(host.take(queue).has_value());
    return answer ? static_cast<status_code>(nvme::status_of(answer->status_and_phase))
                  : status_code::internal_error;
  }
};
INSTANTIATE_TEST_SUITE_P(BlockBytes, CommandTable, testing::Values(512, 4096));

TEST_P(CommandTable, IoCommands) {
  check(io_rows);
}
TEST_P(CommandTable, Identify) {
  check(identify_rows);
}
TEST_P(CommandTable, LogPages) {
  check(log_rows);
}
TEST_P(CommandTable, Features) {
  check(feature_rows);
}
TEST_P(CommandTable, OtherAdminCommands) {
  check(admin_rows);
}

}  // namespace
}  // namespace runnel::target::command_table
