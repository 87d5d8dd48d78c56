// Goal: logs say what happened, wherever they are read from, and events tell once that there is
// something to read. Method: a fake host makes things go wrong and reads.

#include "apps/target/logs.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cstring>
#include <optional>
#include <vector>

#include "apps/target/fake_driver.h"

namespace runnel::target {
namespace {

using fake::machine;
using nvme::admin_opcode;
using nvme::feature;
using nvme::log_page;
using nvme::status_code;
using nvme::submission_entry;

class Logs : public testing::TestWithParam<std::uint32_t> {
 protected:
  Logs() : host{{.block_bytes = GetParam(), .block_count = 1000}} {
    host.enable();
    queue = host.make_pair(1, 64);
  }

  template <class Page>
  Page read(log_page which, std::uint32_t flags = 0) {
    std::memset(host.ram.at(machine::data), 0xee, sizeof(Page));
    const submission_entry command =
        machine::order(admin_opcode::get_log_page,
                       static_cast<std::uint32_t>(which) | flags | (sizeof(Page) / 4 - 1) << 16U);
    EXPECT_EQ(host.execute_status(command), status_code::success);
    Page page;
    std::memcpy(&page, host.ram.at(machine::data), sizeof page);
    return page;
  }
  void set(feature which, std::uint32_t value) {
    EXPECT_EQ(host.execute_status(machine::order(admin_opcode::set_features,
                                                 static_cast<std::uint32_t>(which), value)),
              status_code::success);
  }
  void request_event() {
    EXPECT_FALSE(host.execute(machine::order(admin_opcode::async_event_request, 0)));
  }
  /// Dword 0 of the next event, if there is one.
  std::optional<std::uint64_t> event() {
    host.poll();
    const auto answer = host.take(host.admin);
    return answer ? std::optional{answer->command_specific} : std::nullopt;
  }
  void run(const submission_entry& command) {
    host.submit(queue, command);
    host.poll();
    ASSERT_TRUE(host.take(queue).has_value());
  }
  using errors = std::array<nvme::error_log_entry, error_entries_max>;

  machine host;
  fake::host_queue queue;
};
INSTANTIATE_TEST_SUITE_P(BlockBytes, Logs, testing::Values(512, 4096));

TEST_P(Logs, TheNewestErrorsAreKeptNewestFirst) {
  EXPECT_EQ(read<errors>(log_page::error_information)[0].error_count, 0U);
  for (std::uint64_t i = 0; i < 20; ++i) {
    run(machine::io(nvme::io_opcode::read, 5000 + i, 1, machine::data));
  }
  const auto page = read<errors>(log_page::error_information);
  for (std::size_t i = 0; i < page.size(); ++i) {
    EXPECT_EQ(page[i].error_count, 20 - i);
    EXPECT_EQ(page[i].first_lba, 5019 - i);
    EXPECT_EQ(page[i].command_id, 5019 - i);
    EXPECT_EQ(page[i].sq_id, 1);
    EXPECT_EQ(page[i].nsid, 1U);
    EXPECT_EQ(nvme::status_of(page[i].status_and_phase),
              static_cast<std::uint16_t>(status_code::lba_out_of_range));
  }
}

TEST_P(Logs, ErrorsOfAdminCommandsOfDevicesAndOfJobsAreKept) {
  EXPECT_EQ(host.execute_status(machine::order(admin_opcode::format_nvm, 0)),
            status_code::invalid_opcode);
  for (const auto how : {fake::disk::mode::in_place, fake::disk::mode::delayed}) {
    host.drive.how = how;
    host.drive.status = block_status::unrecovered_read_error;
    run(machine::io(nvme::io_opcode::read, 3, 1, machine::data));
    run(machine::io(nvme::io_opcode::verify, 4, 1, 0));
    host.drive.status = block_status::success;
    run(machine::io(nvme::io_opcode::compare, 5, 1, machine::data + 0x1000));
  }
  const auto page = read<errors>(log_page::error_information);
  EXPECT_EQ(page[0].error_count, 5U);  // both comparisons were right
  EXPECT_EQ(page[4].sq_id, 0);
  const auto health = read<nvme::health_log>(log_page::health_information);
  EXPECT_EQ(health.error_log_entries.low, 5U);
  EXPECT_EQ(health.media_errors.low, 4U);
}

TEST_P(Logs, HealthCountsDataCommandsAndTime) {
  const std::uint32_t blocks = 65536 / GetParam();
  const std::uint64_t list = machine::data + 0x8'0000;
  for (std::uint64_t i = 0; i < 16; ++i) {
    const std::uint64_t page = machine::data + (i + 1) * 0x1000;
    std::memcpy(host.ram.at(list + i * 8), &page, sizeof page);
  }
  for (int i = 0; i < 20; ++i) {  // 1.3 MB: three thousands of 512 bytes, rounded up
    run(machine::io(nvme::io_opcode::read, 0, blocks, machine::data, list));
    run(machine::io(nvme::io_opcode::write, 0, blocks, machine::data, list));
    run(machine::io(nvme::io_opcode::compare, 0, blocks, machine::data, list));
  }
  host.clock.advance_to(instant{std::chrono::minutes{7 * 60 + 59}});
  const auto health = read<nvme::health_log>(log_page::health_information);
  EXPECT_EQ(health.host_reads.low, 40U);
  EXPECT_EQ(health.host_writes.low, 20U);
  EXPECT_EQ(health.data_units_read.low, 6U);
  EXPECT_EQ(health.data_units_written.low, 3U);
  EXPECT_EQ(health.power_on_hours.low, 7U);
  EXPECT_EQ(health.power_cycles.low, 1U);
  EXPECT_EQ(health.critical_warning, 0);
  EXPECT_EQ(health.temperature[0] | health.temperature[1] << 8U, 296);
}

TEST_P(Logs, EveryPageReadInPiecesIsThePageAndNothingBeyond) {
  struct row {
    log_page which;
    std::uint32_t bytes;
  };
  for (const auto& [which, bytes] :
       {row{log_page::supported_pages, 1024}, row{log_page::error_information, 1024},
        row{log_page::health_information, 512}, row{log_page::firmware_slots, 512},
        row{log_page::changed_namespaces, 4096}, row{log_page::commands_and_effects, 4096},
        row{nvme::feature_effects_page, 1024}, row{nvme::management_effects_page, 4096}}) {
    const auto part = [&](std::uint64_t offset, std::uint32_t count) {
      submission_entry command = machine::order(
          admin_opcode::get_log_page, static_cast<std::uint32_t>(which) | (count / 4 - 1) << 16U);
      command.cdw12 = static_cast<std::uint32_t>(offset);
      command.cdw13 = static_cast<std::uint32_t>(offset >> 32U);
      std::memset(host.ram.at(machine::data), 0xee, 8192);
      return host.execute_status(command);
    };
    ASSERT_EQ(part(0, bytes), status_code::success);
    std::vector<std::byte> whole(bytes);
    std::memcpy(whole.data(), host.ram.at(machine::data), bytes);
    EXPECT_EQ(host.ram.at(machine::data)[bytes], std::byte{0xee});
    for (const std::uint64_t offset : {4ULL, bytes / 2ULL, bytes - 4ULL}) {
      ASSERT_EQ(part(offset, 4096), status_code::success);
      EXPECT_EQ(std::memcmp(host.ram.at(machine::data), &whole[offset], bytes - offset), 0);
      EXPECT_EQ(host.ram.at(machine::data)[bytes - offset], std::byte{0xee});
    }
    EXPECT_EQ(part(bytes, 4), status_code::success);  // nothing is left
    EXPECT_EQ(host.ram.at(machine::data)[0], std::byte{0xee});
    for (const std::uint64_t offset : {bytes + 4ULL, 2ULL, 1ULL << 32U, ~3ULL}) {
      EXPECT_EQ(part(offset, 4), status_code::invalid_field) << offset;
    }
  }
}

TEST_P(Logs, TheLogsOfWhatIsOfferedAgreeWithWhatIs) {
  const auto effects = read<nvme::effects_log>(log_page::commands_and_effects);
  const auto pages = read<nvme::supported_log>(log_page::supported_pages);
  const auto features = read<nvme::supported_log>(nvme::feature_effects_page);
  for (unsigned i = 0; i < 256; ++i) {
    submission_entry command{};
    command.opcode = static_cast<std::uint8_t>(i);
    command.nsid = 1;
    command.command_id = static_cast<std::uint16_t>(i);
    host.submit(queue, command);
    host.poll();
    const auto answer = host.take(queue);
    ASSERT_TRUE(answer.has_value());
    const bool refused = nvme::status_of(answer->status_and_phase) ==
                         static_cast<std::uint16_t>(status_code::invalid_opcode);
    EXPECT_EQ((effects.io[i] & 1U) != 0, !refused) << "I/O command " << i;

    const auto admin = host.execute(command);
    const bool admin_refused = admin && nvme::status_of(admin->status_and_phase) ==
                                            static_cast<std::uint16_t>(status_code::invalid_opcode);
    EXPECT_EQ((effects.admin[i] & 1U) != 0, !admin_refused) << "admin command " << i;

    EXPECT_EQ((pages[i] & 1U) != 0, host.execute_status(machine::order(admin_opcode::get_log_page,
                                                                       i)) == status_code::success)
        << "log page " << i;
    EXPECT_EQ((features[i] & 1U) != 0, host.execute_status(machine::order(
                                           admin_opcode::get_features, i)) == status_code::success)
        << "feature " << i;
  }
}

TEST_P(Logs, ATemperatureOutsideItsLimitsIsToldOnceUntilTheLogIsRead) {
  set(feature::temperature_threshold, 290);  // it has 296
  EXPECT_EQ(read<nvme::health_log>(log_page::health_information).critical_warning, 2);
  request_event();
  EXPECT_FALSE(event());  // the host did not want to know
  set(feature::async_event_configuration, 2);
  EXPECT_EQ(event(), 0x02'01'01U);
  request_event();
  set(feature::temperature_threshold, 291);
  EXPECT_FALSE(event());
  read<nvme::health_log>(log_page::health_information, nvme::log_retain_event);
  set(feature::temperature_threshold, 292);
  EXPECT_FALSE(event());
  read<nvme::health_log>(log_page::health_information);
  set(feature::temperature_threshold, 293);
  EXPECT_EQ(event(), 0x02'01'01U);
  set(feature::temperature_threshold, 343);
  EXPECT_EQ(read<nvme::health_log>(log_page::health_information).critical_warning, 0);
}

TEST_P(Logs, ChangedNamespacesAreToldAndListedUntilTheLogIsRead) {
  request_event();
  host.nvme->namespace_changed(1);
  EXPECT_FALSE(event());
  set(feature::async_event_configuration, nvme::events_namespaces);
  host.nvme->namespace_changed(7);
  host.nvme->namespace_changed(3);
  host.nvme->namespace_changed(7);
  EXPECT_EQ(event(), 0x04'00'02U);
  auto list = read<nvme::namespace_list>(log_page::changed_namespaces, nvme::log_retain_event);
  EXPECT_EQ(list[0], 1U);
  EXPECT_EQ(list[1], 3U);
  EXPECT_EQ(list[2], 7U);
  EXPECT_EQ(list[3], 0U);
  list = read<nvme::namespace_list>(log_page::changed_namespaces);
  EXPECT_EQ(list[2], 7U);
  EXPECT_EQ(read<nvme::namespace_list>(log_page::changed_namespaces)[0], 0U);
  for (std::uint32_t nsid = 1; nsid < 40; ++nsid) {
    host.nvme->namespace_changed(nsid);
  }
  list = read<nvme::namespace_list>(log_page::changed_namespaces);
  EXPECT_EQ(list[0], nvme::nsid_all);  // more than are kept: look at all
  EXPECT_EQ(list[1], 0U);
}

TEST_P(Logs, TimestampsRunAndHostsKeepTheirIdentifier) {
  const auto with_data = [&](admin_opcode what, feature which, std::uint32_t cdw11 = 0) {
    return host.execute_status(machine::order(what, static_cast<std::uint32_t>(which), cdw11));
  };
  const auto word = [&](std::uint64_t offset) {
    std::uint64_t value = 0;
    std::memcpy(&value, host.ram.at(machine::data + offset), sizeof value);
    return value;
  };
  host.clock.advance_to(instant{std::chrono::seconds{5}});
  EXPECT_EQ(with_data(admin_opcode::get_features, feature::timestamp), status_code::success);
  EXPECT_EQ(word(0), 5000U);  // since the reset
  const std::uint64_t date = 0xffff'0123'4567'89ab;
  std::memcpy(host.ram.at(machine::data), &date, sizeof date);
  EXPECT_EQ(with_data(admin_opcode::set_features, feature::timestamp), status_code::success);
  host.clock.advance_to(instant{std::chrono::seconds{6}});
  EXPECT_EQ(with_data(admin_opcode::get_features, feature::timestamp), status_code::success);
  EXPECT_EQ(word(0), 0x0002'0123'4567'89abU + 1000);  // the host set it

  const std::array<std::uint64_t, 2> name{0x11, 0x22};
  std::memcpy(host.ram.at(machine::data), name.data(), sizeof name);
  EXPECT_EQ(with_data(admin_opcode::set_features, feature::host_identifier, 1),
            status_code::success);
  std::memset(host.ram.at(machine::data), 0, 16);
  EXPECT_EQ(with_data(admin_opcode::get_features, feature::host_identifier, 1),
            status_code::success);
  EXPECT_EQ(word(0), 0x11U);
  EXPECT_EQ(word(8), 0x22U);
  std::memset(host.ram.at(machine::data), 0x33, 16);
  EXPECT_EQ(with_data(admin_opcode::set_features, feature::host_identifier, 1),
            status_code::command_sequence_error);
}

}  // namespace
}  // namespace runnel::target
