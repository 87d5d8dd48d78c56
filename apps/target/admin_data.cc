#include <algorithm>
#include <cstring>

#include "apps/target/admin.h"
#include "apps/target/error_log.h"
#include "apps/target/identify.h"
#include "apps/target/logs.h"
#include "apps/target/prp_walk.h"
#include "drivers/nvme/spec_logs.h"
#include "mempool/base/bits.h"
#include "mempool/base/check.h"

// The admin commands that carry data: identify, get log page, get and set features.
namespace runnel::target {

using nvme::identify_cns;
using nvme::status_code;

admin_queue::answer admin_queue::identify(const command& order) noexcept {
  switch (static_cast<identify_cns>(order.cdw10 & 0xffU)) {
    case identify_cns::controller:
      return send_page(
          order, describe_controller(system_, options_.controller_id, options_.shadow_doorbells));
    case identify_cns::active_namespaces:
      if (order.nsid >= nvme::nsid_all - 1) {
        return {status_code::invalid_namespace_or_format};
      }
      return send_page(order, list_namespaces(system_, order.nsid));
    case identify_cns::namespace_nvm:
    case identify_cns::namespace_descriptors:
    case identify_cns::namespace_independent:
      return identify_namespace(order);
    case identify_cns::namespace_command_set:
    case identify_cns::controller_command_set:
    case identify_cns::active_namespaces_command_set:
      return identify_command_set(order);
    case identify_cns::command_sets: {
      const std::uint32_t id = order.cdw10 >> 16U;
      if (id != 0xffff && id != options_.controller_id) {
        return {status_code::invalid_field};
      }
      return send_page(order, describe_command_sets());
    }
    default:
      return {status_code::invalid_field};
  }
}

admin_queue::answer admin_queue::identify_namespace(const command& order) noexcept {
  if (order.nsid - 1 >= system_.namespaces.size()) {
    return {status_code::invalid_namespace_or_format};
  }
  const exported_namespace& space = system_.namespaces[order.nsid - 1];
  switch (static_cast<identify_cns>(order.cdw10 & 0xffU)) {
    case identify_cns::namespace_descriptors:
      return send_page(order, describe_ids(space.identity));
    case identify_cns::namespace_independent:
      return send_page(order, describe_independent());
    default:
      return send_page(order, describe_namespace(space));
  }
}

/// What these pages of the NVM command set could say (protection information, limits of single
/// commands) does not exist here: they are zero.
admin_queue::answer admin_queue::identify_command_set(const command& order) noexcept {
  constexpr std::array<std::byte, nvme::identify_bytes> nothing{};
  constexpr std::uint32_t nvm = 0;
  if (order.cdw11 >> 24U != nvm) {
    return {status_code::invalid_field};
  }
  const auto what = static_cast<identify_cns>(order.cdw10 & 0xffU);
  if (what == identify_cns::controller_command_set) {
    return send_page(order, nothing);
  }
  if (what == identify_cns::namespace_command_set) {
    return order.nsid - 1 < system_.namespaces.size()
               ? send_page(order, nothing)
               : answer{status_code::invalid_namespace_or_format};
  }
  return order.nsid < nvme::nsid_all - 1 ? send_page(order, list_namespaces(system_, order.nsid))
                                         : answer{status_code::invalid_namespace_or_format};
}

admin_queue::answer admin_queue::get_log_page(const command& order) noexcept {
  if (order.nsid != 0 && order.nsid != nvme::nsid_all) {
    return {status_code::invalid_field};  // no log is of one namespace
  }
  const auto which = static_cast<nvme::log_page>(order.cdw10 & 0xffU);
  const auto explain = [&](nvme::event_type what, const auto& page) {
    const answer done = copy_log(order, page);
    if (done.status == status_code::success && (order.cdw10 & nvme::log_retain_event) == 0) {
      events_.log_was_read(what);
    }
    return done;
  };
  if (which == nvme::feature_effects_page) {
    return copy_log(order, describe_feature_effects(options_.features));
  }
  if (which == nvme::management_effects_page) {
    return copy_log(order, nvme::effects_log{});  // no such commands
  }
  switch (which) {
    case nvme::log_page::supported_pages:
      return copy_log(order, describe_log_pages());
    case nvme::log_page::error_information:
      return explain(nvme::event_type::error, describe_errors(state_.errors));
    case nvme::log_page::health_information:
      return explain(nvme::event_type::health, describe_health(system_, state_, crew_.counters()));
    case nvme::log_page::firmware_slots:
      return copy_log(order, describe_firmware(system_));
    case nvme::log_page::changed_namespaces: {
      const answer done = explain(nvme::event_type::notice, describe_changed(state_.changed));
      if (done.status == status_code::success && (order.cdw10 & nvme::log_retain_event) == 0) {
        state_.changed = {};
      }
      return done;
    }
    case nvme::log_page::commands_and_effects:
      return order.cdw14 >> 24U == 0  // the NVM command set
                 ? copy_log(order, describe_command_effects(system_, options_.shadow_doorbells))
                 : answer{status_code::invalid_field};
    default:
      return {status_code::invalid_log_page};
  }
}

admin_queue::answer admin_queue::copy_log(const command& order,
                                          std::span<const std::byte> log) noexcept {
  const std::uint64_t dwords =
      (std::uint64_t{order.cdw11 & 0xffffU} << 16U | order.cdw10 >> 16U) + 1;
  const std::uint64_t offset = std::uint64_t{order.cdw13} << 32U | order.cdw12;
  if ((order.cdw14 & nvme::log_offset_is_index) != 0 || !is_aligned(offset, 4) ||
      offset > log.size()) {
    return {status_code::invalid_field};
  }
  return send(order, log.subspan(offset), dwords * 4);
}

admin_queue::answer admin_queue::get_feature(const command& order) noexcept {
  const feature_answer found =
      target::get_feature(state_, options_.features, order.cdw10, order.cdw11);
  const std::size_t bytes = feature_data_bytes(order.cdw10, order.cdw11);
  const bool capabilities =
      (order.cdw10 >> 8U & 7U) == static_cast<std::uint32_t>(nvme::feature_select::supported);
  if (found.status != status_code::success || bytes == 0 || capabilities) {
    return {found.status, found.value};
  }
  feature_data data;
  get_feature_data(state_, order.cdw10, system_.now(), data);
  return send(order, std::span{data}.first(bytes), bytes);
}

admin_queue::answer admin_queue::set_feature(const command& order) noexcept {
  if (order.nsid != nvme::nsid_all && order.nsid > system_.namespaces.size()) {
    return {status_code::invalid_namespace_or_format};
  }
  const feature_answer done =
      target::set_feature(state_, options_.features, order, queues_.any_io_queue());
  const std::size_t bytes = feature_data_bytes(order.cdw10, order.cdw11);
  if (done.status == status_code::success && bytes != 0) {
    feature_data data{};
    const answer received = receive(order, std::span{data}.first(bytes));
    return received.status == status_code::success
               ? answer{set_feature_data(state_, order, system_.now(), data)}
               : received;
  }
  crew_.set_write_through(!write_cache_enabled(state_.features));
  watch_temperature();
  return {done.status, done.value};
}

/// A threshold or the wish to be told may have changed; the temperature never does.
void admin_queue::watch_temperature() noexcept {
  const std::uint32_t wanted = events_wanted(state_.features) & nvme::events_health_all;
  if ((critical_warnings(state_.features) & wanted) != 0) {
    events_.report(nvme::event_type::health, nvme::health_event_temperature);
  }
}

admin_queue::answer admin_queue::send(const command& order, std::span<const std::byte> source,
                                      std::uint64_t bytes) noexcept {
  if (bytes > system_.transfer_bytes_max) {
    return {status_code::invalid_field};
  }
  const prp_segments found = walk_prp(
      memory_, {.prp1 = order.prp1, .prp2 = order.prp2, .bytes = bytes, .wanted = access::write},
      segments_);
  for (const segment& piece : std::span{segments_}.first(found.count)) {
    const std::size_t part = std::min(piece.length, source.size());
    std::memcpy(piece.address, source.data(), part);
    source = source.subspan(part);
  }
  return {found.status};
}

admin_queue::answer admin_queue::receive(const command& order, std::span<std::byte> out) noexcept {
  CHECK(out.size() <= page_bytes);
  const prp_segments found = walk_prp(
      memory_,
      {.prp1 = order.prp1, .prp2 = order.prp2, .bytes = out.size(), .wanted = access::read},
      segments_);
  for (const segment& piece : std::span{segments_}.first(found.count)) {
    copy_once(out.data(), piece.address, piece.length);
    out = out.subspan(piece.length);
  }
  return {found.status};
}

}  // namespace runnel::target
