#include "apps/target/controller_features.h"

#include <algorithm>

namespace runnel::target {

using nvme::feature;
using nvme::status_code;

namespace {

constexpr std::uint32_t temperature_threshold = 343;  // kelvin; nothing here ever gets warm
constexpr std::uint32_t threshold_kind_under = 1;

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

feature_state initial_features() noexcept {
  feature_state features;
  value_of(features, feature::volatile_write_cache) = 1;
  value_of(features, feature::temperature_threshold) = temperature_threshold;
  return features;
}

bool write_cache_enabled(const feature_state& features) noexcept {
  return value_of(features, feature::volatile_write_cache) != 0;
}

feature_answer get_feature(const controller_state& state, const feature_limits& limits,
                           std::uint32_t cdw10, std::uint32_t cdw11) noexcept {
  const auto which = static_cast<feature>(cdw10 & 0xffU);
  const feature_answer absent{.status = status_code::invalid_field};
  if ((cdw10 >> 8U & 7U) != static_cast<std::uint32_t>(nvme::feature_select::current)) {
    return absent;
  }
  if (is_plain(which)) {
    return {.value = value_of(state.features, which)};
  }
  switch (which) {
    case feature::power_management:
      return {.value = 0};  // the only power state
    case feature::temperature_threshold: {
      const unsigned shift = threshold_shift(cdw11);
      return shift == 32
                 ? absent
                 : feature_answer{.value = value_of(state.features, which) >> shift & 0xffffU};
    }
    case feature::volatile_write_cache:
      return limits.volatile_cache ? feature_answer{.value = value_of(state.features, which)}
                                   : absent;
    case feature::number_of_queues:
      return {.value = nvme::number_of_queues(state.io_queues, state.io_queues)};
    case feature::interrupt_vector: {
      const std::uint32_t vector = cdw11 & 0xffffU;
      if (vector >= limits.vectors) {
        return absent;
      }
      const std::uint64_t off = state.features.uncoalesced[vector / 64] >> vector % 64U & 1U;
      return {.value = vector | static_cast<std::uint32_t>(off) << 16U};
    }
    default:
      return absent;
  }
}

feature_answer set_feature(controller_state& state, const feature_limits& limits,
                           const nvme::submission_entry& command, bool io_queue_exists) noexcept {
  const auto which = static_cast<feature>(command.cdw10 & 0xffU);
  if ((command.cdw10 & nvme::feature_save) != 0) {
    return {.status = status_code::feature_not_saveable};
  }
  if (is_plain(which)) {
    value_of(state.features, which) = command.cdw11;
    return {};
  }
  switch (which) {
    case feature::power_management:
      return {.status =
                  (command.cdw11 & 0x1fU) == 0 ? status_code::success : status_code::invalid_field};
    case feature::temperature_threshold:
      return set_threshold(state.features, command.cdw11);
    case feature::volatile_write_cache:
      if (!limits.volatile_cache) {
        return {.status = status_code::invalid_field};
      }
      value_of(state.features, which) = command.cdw11 & 1U;
      return {};
    case feature::number_of_queues:
      return set_queue_count(state, limits, command.cdw11, io_queue_exists);
    case feature::interrupt_vector:
      return set_interrupt_vector(state.features, limits, command.cdw11);
    default:
      return {.status = status_code::invalid_field};
  }
}

}  // namespace runnel::target
