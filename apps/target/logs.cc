#include "apps/target/logs.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <span>

#include "apps/target/controller_features.h"
#include "apps/target/text_field.h"

namespace runnel::target {
namespace {

using nvme::admin_opcode;
using nvme::io_opcode;
using nvme::log_page;

constexpr std::uint16_t kelvin = 296;  // memory has no temperature to speak of; a cool room
constexpr std::uint64_t bytes_per_data_unit = 512'000;

nvme::counter128 data_units(std::uint64_t bytes) noexcept {
  return {(bytes + bytes_per_data_unit - 1) / bytes_per_data_unit, 0};
}

}  // namespace

std::uint8_t critical_warnings(const feature_state& features) noexcept {
  const temperature_limits limits = temperature_limits_of(features);
  const bool outside = kelvin >= limits.over || kelvin <= limits.under;
  return outside ? nvme::critical_temperature : std::uint8_t{0};
}

nvme::health_log describe_health(const subsystem& system, const controller_state& state,
                                 const io_counters& counters) noexcept {
  nvme::health_log log{};
  log.critical_warning = critical_warnings(state.features);
  std::memcpy(log.temperature.data(), &kelvin, sizeof kelvin);
  log.available_spare = 100;
  log.available_spare_threshold = 10;
  log.data_units_read = data_units(counters.bytes_read);
  log.data_units_written = data_units(counters.bytes_written);
  log.host_reads = {counters.reads, 0};
  log.host_writes = {counters.writes, 0};
  log.power_cycles = {1, 0};
  log.power_on_hours = {
      static_cast<std::uint64_t>(
          std::chrono::duration_cast<std::chrono::hours>(system.time_on()).count()),
      0};
  log.media_errors = {counters.media_errors, 0};
  log.error_log_entries = {state.errors.count, 0};
  return log;
}

nvme::firmware_slot_log describe_firmware(const subsystem& system) {
  nvme::firmware_slot_log log{};
  log.afi = 1;
  put_text(log.frs[0], system.firmware);
  return log;
}

nvme::supported_log describe_log_pages() noexcept {
  nvme::supported_log log{};
  for (const log_page each :
       {log_page::supported_pages, log_page::error_information, log_page::health_information,
        log_page::firmware_slots, log_page::changed_namespaces, log_page::commands_and_effects,
        nvme::feature_effects_page, nvme::management_effects_page}) {
    log[static_cast<std::size_t>(each)] = nvme::effect_supported;
  }
  return log;
}

nvme::effects_log describe_command_effects(const subsystem& system,
                                           bool shadow_doorbells) noexcept {
  nvme::effects_log log{};
  for (const admin_opcode each :
       {admin_opcode::delete_io_sq, admin_opcode::create_io_sq, admin_opcode::get_log_page,
        admin_opcode::delete_io_cq, admin_opcode::create_io_cq, admin_opcode::identify,
        admin_opcode::abort, admin_opcode::set_features, admin_opcode::get_features,
        admin_opcode::async_event_request}) {
    log.admin[static_cast<std::size_t>(each)] = nvme::effect_supported | nvme::effect_of_controller;
  }
  if (shadow_doorbells) {
    log.admin[static_cast<std::size_t>(admin_opcode::doorbell_buffer_config)] =
        nvme::effect_supported | nvme::effect_of_controller;
  }
  struct offer {
    io_opcode command;
    block_op needs;
  };
  for (const auto& [command, needs] :
       {offer{io_opcode::flush, block_op::flush}, offer{io_opcode::write, block_op::write},
        offer{io_opcode::read, block_op::read}, offer{io_opcode::compare, block_op::compare},
        offer{io_opcode::write_zeroes, block_op::write_zeroes},
        offer{io_opcode::dataset_management, block_op::deallocate},
        offer{io_opcode::verify, block_op::verify}}) {
    if (system.operations.contains(needs)) {
      log.io[static_cast<std::size_t>(command)] =
          nvme::effect_supported | nvme::effect_of_namespace |
          (changes_data(needs) ? nvme::effect_changes_data : 0U);
    }
  }
  return log;
}

void note_changed_namespace(changed_state& changed, std::uint32_t nsid) noexcept {
  const auto known = std::span{changed.ids}.first(changed.count);
  if (std::ranges::find(known, nsid) != known.end()) {
    return;
  }
  if (changed.count == changed.ids.size()) {
    changed.too_many = true;
    return;
  }
  changed.ids[changed.count++] = nsid;
  std::ranges::sort(std::span{changed.ids}.first(changed.count));  // as the log is
}

nvme::namespace_list describe_changed(const changed_state& changed) noexcept {
  nvme::namespace_list list{};
  if (changed.too_many) {
    list[0] = nvme::nsid_all;
  } else {
    std::ranges::copy(std::span{changed.ids}.first(changed.count), list.begin());
  }
  return list;
}

}  // namespace runnel::target
