#include "apps/target/identify.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <span>
#include <string_view>

#include "apps/target/controller_state.h"
#include "apps/target/prp_walk.h"
#include "mempool/base/check.h"

namespace runnel::target {
namespace {

constexpr std::uint16_t vendor_id = 0x4e58;
constexpr std::uint16_t kelvin = 296;  // memory has no temperature to speak of; a cool room
constexpr std::uint8_t io_controller = 1;
constexpr std::uint8_t several_controllers = 1U << 1U;  // CMIC
constexpr std::uint8_t no_broadcast_flush = 2U << 1U;   // VWC: flush is for one namespace
constexpr std::uint8_t shared_namespace = 1;            // NMIC: of all controllers of the target
constexpr std::uint64_t bytes_per_data_unit = 512'000;

/// Text of the specification: padded with spaces, not terminated.
template <std::size_t Size>
void put_text(std::array<char, Size>& field, std::string_view text) {
  field.fill(' ');
  std::ranges::copy(text.substr(0, Size), field.begin());
}

nvme::counter128 data_units(std::uint64_t bytes) noexcept {
  return {(bytes + bytes_per_data_unit - 1) / bytes_per_data_unit, 0};
}

}  // namespace

nvme::identify_controller describe_controller(const subsystem& system,
                                              std::uint16_t controller_id) {
  CHECK(system.nqn.size() <= 223);
  nvme::identify_controller page{};
  page.vid = vendor_id;
  page.ssvid = vendor_id;
  put_text(page.sn, system.serial);
  put_text(page.mn, system.model);
  put_text(page.fr, system.firmware);
  page.cmic = several_controllers;
  page.mdts = static_cast<std::uint8_t>(std::countr_zero(system.transfer_bytes_max / page_bytes));
  page.cntlid = controller_id;
  page.ver = nvme_version;
  page.cntrltype = io_controller;
  page.acl = 3;
  page.aerl = event_requests_max - 1;
  page.frmw = 1U << 1U | 1U;  // one slot, read-only
  page.lpa = nvme::lpa_extended_data;
  page.wctemp = 343;
  page.cctemp = 353;
  page.sqes = 6U << 4U | 6U;
  page.cqes = 4U << 4U | 4U;
  page.nn = static_cast<std::uint32_t>(system.namespaces.size());
  page.vwc = static_cast<std::uint8_t>(no_broadcast_flush |
                                       (system.volatile_cache ? nvme::vwc_present : 0U));
  std::ranges::copy(system.nqn, page.subnqn.begin());
  return page;
}

nvme::identify_namespace describe_namespace(const exported_namespace& space) {
  const block_info& info = space.device->info();
  nvme::identify_namespace page{};
  page.nsze = info.block_count;
  page.ncap = info.block_count;
  page.nuse = info.block_count;
  page.nmic = shared_namespace;
  page.lbaf[0].lbads = static_cast<std::uint8_t>(std::countr_zero(info.block_bytes));
  page.nguid = space.identity.nguid;
  page.eui64 = space.identity.eui64;
  return page;
}

nvme::namespace_list list_namespaces(const subsystem& system, std::uint32_t after) {
  nvme::namespace_list list{};
  const auto count = static_cast<std::uint32_t>(system.namespaces.size());
  std::size_t filled = 0;
  for (std::uint32_t id = after; id < count && filled < list.size(); ++id) {
    list[filled++] = id + 1;
  }
  return list;
}

std::array<std::byte, nvme::identify_bytes> describe_ids(const namespace_identity& identity) {
  std::array<std::byte, nvme::identify_bytes> page{};
  std::size_t at = 0;
  const auto append = [&](nvme::namespace_id_type type, std::span<const std::uint8_t> id) {
    const nvme::namespace_descriptor head{.nidt = static_cast<std::uint8_t>(type),
                                          .nidl = static_cast<std::uint8_t>(id.size()),
                                          .reserved2 = 0};
    std::memcpy(&page[at], &head, sizeof head);
    std::memcpy(&page[at + sizeof head], id.data(), id.size());
    at += sizeof head + id.size();
  };
  append(nvme::namespace_id_type::eui64, identity.eui64);
  append(nvme::namespace_id_type::nguid, identity.nguid);
  append(nvme::namespace_id_type::uuid, identity.uuid);
  return page;
}

nvme::health_log describe_health(const io_counters& counters) {
  nvme::health_log log{};
  std::memcpy(log.temperature.data(), &kelvin, sizeof kelvin);
  log.available_spare = 100;
  log.available_spare_threshold = 10;
  log.data_units_read = data_units(counters.bytes_read);
  log.data_units_written = data_units(counters.bytes_written);
  log.host_reads = {counters.reads, 0};
  log.host_writes = {counters.writes, 0};
  return log;
}

nvme::firmware_slot_log describe_firmware(const subsystem& system) {
  nvme::firmware_slot_log log{};
  log.afi = 1;
  put_text(log.frs[0], system.firmware);
  return log;
}

}  // namespace runnel::target
