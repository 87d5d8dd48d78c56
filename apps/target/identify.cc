#include "apps/target/identify.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <span>
#include <string_view>

#include "apps/target/controller_state.h"
#include "apps/target/pci_config.h"
#include "apps/target/prp_walk.h"
#include "apps/target/text_field.h"
#include "drivers/nvme/spec_commands.h"
#include "mempool/base/check.h"

namespace runnel::target {
namespace {

constexpr std::uint8_t io_controller = 1;
constexpr std::uint8_t several_controllers = 1U << 1U;  // CMIC
constexpr std::uint8_t shared_namespace = 1;            // NMIC: of all controllers of the target

/// Blocks that any namespace takes in one command: so many a fused pair compares and writes.
std::uint32_t pair_blocks(const subsystem& system) noexcept {
  std::uint32_t block_bytes = 512;
  for (const exported_namespace& space : system.namespaces) {
    block_bytes = std::max(block_bytes, space.device->info().block_bytes);
  }
  return std::clamp(system.transfer_bytes_max / block_bytes, 1U, 65536U);
}

}  // namespace

nvme::identify_controller describe_controller(const subsystem& system, std::uint16_t controller_id,
                                              bool shadow_doorbells) {
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
  page.oacs = shadow_doorbells ? nvme::oacs_doorbell_buffer : std::uint16_t{0};
  page.acl = 3;
  page.aerl = event_requests_max - 1;
  page.elpe = error_entries_max - 1;
  page.oaes = nvme::events_namespaces;
  page.ctratt = nvme::host_identifier_extended;
  page.frmw = 1U << 1U | 1U;  // one slot, read-only
  page.lpa = nvme::lpa_effects_log | nvme::lpa_extended_data | nvme::lpa_supported_pages;
  page.wctemp = 343;
  page.cctemp = 353;
  page.sqes = 6U << 4U | 6U;
  page.cqes = 4U << 4U | 4U;
  page.nn = static_cast<std::uint32_t>(system.namespaces.size());
  const auto if_offered = [&](block_op what, std::uint16_t bit) {
    return system.operations.contains(what) ? bit : 0U;
  };
  page.oncs =
      static_cast<std::uint16_t>(if_offered(block_op::compare, nvme::oncs_compare) |
                                 if_offered(block_op::deallocate, nvme::oncs_dataset_management) |
                                 if_offered(block_op::write_zeroes, nvme::oncs_write_zeroes) |
                                 if_offered(block_op::verify, nvme::oncs_verify));
  page.fuses =
      static_cast<std::uint16_t>(if_offered(block_op::compare, nvme::fuses_compare_and_write));
  page.acwu = static_cast<std::uint16_t>(pair_blocks(system) - 1);
  page.vwc = static_cast<std::uint8_t>(nvme::vwc_broadcast_flush |
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
  if (info.deallocated_is_zero) {
    page.dlfeat = nvme::dlfeat_reads_zero | nvme::dlfeat_write_zeroes;
  }
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

nvme::identify_independent describe_independent() {
  nvme::identify_independent page{};
  page.nmic = shared_namespace;
  page.nstat = 1;  // ready
  return page;
}

std::array<std::uint64_t, 512> describe_command_sets() {
  std::array<std::uint64_t, 512> combinations{};
  combinations[0] = 1;  // the NVM command set, and no other beside it
  return combinations;
}

}  // namespace runnel::target
