#include "apps/target/controller_features.h"

#include <algorithm>
#include <chrono>
#include <cstring>

namespace runnel::target {

using nvme::feature;
using nvme::status_code;

namespace {

constexpr std::uint32_t temperature_threshold = 343;  // kelvin; nothing here ever gets warm
constexpr std::uint32_t threshold_kind_under = 1;
constexpr std::uint32_t error_on_deallocated = 1U << 16U;   // DULBE
constexpr std::uint64_t timestamp_mask = 0xffff'ffff'ffff;  // milliseconds
constexpr std::uint64_t timestamp_by_host = std::uint64_t{1} << 49U;

std::uint64_t milliseconds_of(instant time) noexcept {
  return static_cast<std::uint64_t>(
      std::chrono::duration_cast<std::chrono::milliseconds>(time.time_since_epoch()).count());
}

std::uint32_t& value_of(feature_state& features, feature which) noexcept {
  return features.value[static_cast<std::size_t>(which)];
}
std::uint32_t value_of(const feature_state& features, feature which) noexcept {
  return features.value[static_cast<std::size_t>(which)];
}

/// The features that are one word without further meaning to us.
bool is_plain(feature which) noexcept {
  switch (which) {
    case feature::arbitration:
    case feature::error_recovery:
    case feature::interrupt_coalescing:
    case feature::write_atomicity:
    case feature::async_event_configuration:
      return true;
    default:
      return false;
  }
}

/// Whether there is such a feature here.
bool is_offered(feature which, const feature_limits& limits) noexcept {
  switch (which) {
    case feature::power_management:
    case feature::temperature_threshold:
    case feature::number_of_queues:
    case feature::interrupt_vector:
    case feature::timestamp:
    case feature::host_identifier:
      return true;
    case feature::volatile_write_cache:
      return limits.volatile_cache;
    default:
      return is_plain(which);
  }
}

bool is_of_namespace(feature which) noexcept {
  return which == feature::error_recovery;
}

/// Which half of the stored word a temperature threshold is in: over it low, under it high.
/// @return 32 when the host asks for a sensor or kind that there is not
unsigned threshold_shift(std::uint32_t cdw11) noexcept {
  const std::uint32_t sensor = cdw11 >> 16U & 0xfU;  // 0: composite
  const std::uint32_t kind = cdw11 >> 20U & 3U;
  return sensor != 0 || kind > threshold_kind_under ? 32 : kind * 16;
}

feature_answer set_queue_count(controller_state& state, const feature_limits& limits,
                               std::uint32_t cdw11, bool io_queue_exists) noexcept {
  const std::uint32_t submission = cdw11 & 0xffffU;
  const std::uint32_t completion = cdw11 >> 16U;
  if (submission == 0xffff || completion == 0xffff) {
    return {.status = status_code::invalid_field};
  }
  if (io_queue_exists) {
    return {.status = status_code::command_sequence_error};
  }
  // One number for both kinds: a host that wants fewer of one simply creates fewer.
  state.io_queues = static_cast<std::uint16_t>(
      std::min(std::max(submission, completion) + 1, std::uint32_t{limits.io_queues}));
  return {.value = nvme::number_of_queues(state.io_queues, state.io_queues)};
}

feature_answer set_interrupt_vector(feature_state& features, const feature_limits& limits,
                                    std::uint32_t cdw11) noexcept {
  const std::uint32_t vector = cdw11 & 0xffffU;
  if (vector >= limits.vectors) {
    return {.status = status_code::invalid_field};
  }
  const std::uint64_t bit = std::uint64_t{1} << vector % 64U;
  std::uint64_t& word = features.uncoalesced[vector / 64];
  word = (cdw11 >> 16U & 1U) != 0 ? word | bit : word & ~bit;
  return {};
}

feature_answer set_threshold(feature_state& features, std::uint32_t cdw11) noexcept {
  const unsigned shift = threshold_shift(cdw11);
  if (shift == 32) {
    return {.status = status_code::invalid_field};
  }
  std::uint32_t& both = value_of(features, feature::temperature_threshold);
  both = (both & ~(0xffffU << shift)) | (cdw11 & 0xffffU) << shift;
  return {};
}

}  // namespace

feature_state initial_features(instant now) noexcept {
  feature_state features;
  value_of(features, feature::volatile_write_cache) = 1;
  value_of(features, feature::temperature_threshold) = temperature_threshold;
  features.timestamp.set_at_milliseconds = milliseconds_of(now);
  return features;
}

bool write_cache_enabled(const feature_state& features) noexcept {
  return value_of(features, feature::volatile_write_cache) != 0;
}

temperature_limits temperature_limits_of(const feature_state& features) noexcept {
  const std::uint32_t both = value_of(features, feature::temperature_threshold);
  return {.over = static_cast<std::uint16_t>(both),
          .under = static_cast<std::uint16_t>(both >> 16U)};
}

std::uint32_t events_wanted(const feature_state& features) noexcept {
  return value_of(features, feature::async_event_configuration);
}

std::size_t feature_data_bytes(std::uint32_t cdw10, std::uint32_t cdw11) noexcept {
  switch (static_cast<feature>(cdw10 & 0xffU)) {
    case feature::timestamp:
      return 8;
    case feature::host_identifier:
      return (cdw11 & nvme::host_identifier_extended) != 0 ? 16 : 8;
    default:
      return 0;
  }
}

nvme::supported_log describe_feature_effects(const feature_limits& limits) noexcept {
  nvme::supported_log log{};
  for (std::size_t id = 0; id < log.size(); ++id) {
    const auto which = static_cast<feature>(id);
    if (is_offered(which, limits)) {
      log[id] = nvme::effect_supported |
                (is_of_namespace(which) ? nvme::effect_of_namespace : nvme::effect_of_controller);
    }
  }
  return log;
}

namespace {

/// A value, as it is or as it is after a reset.
feature_answer look_up(const feature_state& features, std::uint16_t io_queues,
                       const feature_limits& limits, feature which, std::uint32_t cdw11) noexcept {
  const feature_answer absent{.status = status_code::invalid_field};
  switch (which) {
    case feature::power_management:  // the only power state
    case feature::timestamp:         // these two are data
    case feature::host_identifier:
      return {};
    case feature::temperature_threshold: {
      const unsigned shift = threshold_shift(cdw11);
      return shift == 32 ? absent
                         : feature_answer{.value = value_of(features, which) >> shift & 0xffffU};
    }
    case feature::number_of_queues:
      return {.value = nvme::number_of_queues(io_queues, io_queues)};
    case feature::interrupt_vector: {
      const std::uint32_t vector = cdw11 & 0xffffU;
      if (vector >= limits.vectors) {
        return absent;
      }
      const std::uint64_t off = features.uncoalesced[vector / 64] >> vector % 64U & 1U;
      return {.value = vector | static_cast<std::uint32_t>(off) << 16U};
    }
    default:
      return {.value = value_of(features, which)};
  }
}

}  // namespace

feature_answer get_feature(const controller_state& state, const feature_limits& limits,
                           std::uint32_t cdw10, std::uint32_t cdw11) noexcept {
  const auto which = static_cast<feature>(cdw10 & 0xffU);
  if (!is_offered(which, limits)) {
    return {.status = status_code::invalid_field};
  }
  switch (static_cast<nvme::feature_select>(cdw10 >> 8U & 7U)) {
    case nvme::feature_select::current:
      return look_up(state.features, state.io_queues, limits, which, cdw11);
    case nvme::feature_select::initial:
    case nvme::feature_select::saved:  // nothing is, so the initial value stands for it
      return look_up(initial_features({}), limits.io_queues, limits, which, cdw11);
    case nvme::feature_select::supported:
      return {.value = nvme::feature_changeable |
                       (is_of_namespace(which) ? nvme::feature_of_namespace : 0U)};
  }
  return {.status = status_code::invalid_field};
}

void get_feature_data(const controller_state& state, std::uint32_t cdw10, instant now,
                      feature_data& out) noexcept {
  out = {};
  const bool current = (cdw10 >> 8U & 7U) == 0;
  if (static_cast<feature>(cdw10 & 0xffU) == feature::host_identifier) {
    if (current) {
      std::memcpy(out.data(), state.features.host_identifier.data(), out.size());
    }
    return;
  }
  const timestamp_state& stamp = state.features.timestamp;
  const std::uint64_t value =
      current ? stamp.milliseconds + (milliseconds_of(now) - stamp.set_at_milliseconds) : 0;
  const std::uint64_t origin = current && stamp.by_host != 0 ? timestamp_by_host : 0;
  const std::uint64_t both = (value & timestamp_mask) | origin;
  std::memcpy(out.data(), &both, sizeof both);
}

feature_answer set_feature(controller_state& state, const feature_limits& limits,
                           const nvme::submission_entry& command, bool io_queue_exists) noexcept {
  const auto which = static_cast<feature>(command.cdw10 & 0xffU);
  if (!is_offered(which, limits)) {
    return {.status = status_code::invalid_field};
  }
  if ((command.cdw10 & nvme::feature_save) != 0) {
    return {.status = status_code::feature_not_saveable};
  }
  if (command.nsid != 0 && command.nsid != nvme::nsid_all && !is_of_namespace(which)) {
    return {.status = status_code::feature_not_namespace_specific};
  }
  switch (which) {
    case feature::power_management:
      return {.status =
                  (command.cdw11 & 0x1fU) == 0 ? status_code::success : status_code::invalid_field};
    case feature::temperature_threshold:
      return set_threshold(state.features, command.cdw11);
    case feature::error_recovery:
      if ((command.cdw11 & error_on_deallocated) != 0) {
        return {.status = status_code::invalid_field};  // as identify namespace says
      }
      break;
    case feature::volatile_write_cache:
      value_of(state.features, which) = command.cdw11 & 1U;
      return {};
    case feature::number_of_queues:
      return set_queue_count(state, limits, command.cdw11, io_queue_exists);
    case feature::interrupt_vector:
      return set_interrupt_vector(state.features, limits, command.cdw11);
    case feature::timestamp:
    case feature::host_identifier:
      return {};
    default:
      break;
  }
  value_of(state.features, which) = command.cdw11;
  return {};
}

status_code set_feature_data(controller_state& state, const nvme::submission_entry& command,
                             instant now, const feature_data& in) noexcept {
  if (static_cast<feature>(command.cdw10 & 0xffU) == feature::timestamp) {
    std::uint64_t value = 0;
    std::memcpy(&value, in.data(), sizeof value);
    state.features.timestamp = {.milliseconds = value & timestamp_mask,
                                .set_at_milliseconds = milliseconds_of(now),
                                .by_host = 1};
    return status_code::success;
  }
  std::array<std::uint8_t, 16>& known = state.features.host_identifier;
  const bool fresh = std::ranges::all_of(known, [](std::uint8_t byte) { return byte == 0; });
  if (!fresh && std::memcmp(known.data(), in.data(), known.size()) != 0) {
    return status_code::command_sequence_error;  // a host does not become another
  }
  std::memcpy(known.data(), in.data(), known.size());
  return status_code::success;
}

}  // namespace runnel::target
