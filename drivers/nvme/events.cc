#include "drivers/nvme/events.h"

#include <algorithm>
#include <array>
#include <bit>

#include "drivers/nvme/step_actions.h"
#include "drivers/nvme/steps.h"
#include "mempool/base/bits.h"

// What a device reports by itself: asked for in advance, counted, and read up on.
namespace runnel::nvme {
namespace {

struct log_source {
  log_page page;
  std::uint32_t bytes;
};

log_source source_of(event_log which) noexcept {
  switch (which) {
    case event_log::error:
      return {.page = log_page::error_information, .bytes = sizeof(error_log_entry)};
    case event_log::health:
      return {.page = log_page::health_information, .bytes = sizeof(health_log)};
    case event_log::namespaces:
      return {.page = log_page::changed_namespaces, .bytes = sizeof(namespace_list)};
    case event_log::firmware:
      break;
  }
  return {.page = log_page::firmware_slots, .bytes = sizeof(firmware_slot_log)};
}

void want_log(controller_data& data, event_log which) noexcept {
  data.event_logs |= static_cast<std::uint8_t>(1U << static_cast<unsigned>(which));
}

/// @pre one is wanted
event_log next_log(const controller_data& data) noexcept {
  return static_cast<event_log>(std::countr_zero(data.event_logs));
}

/// What is asked for is chosen by the kind of the event; the page that the device names with it is
/// its word only.
void count_event(controller_data& data, std::uint32_t answer) noexcept {
  controller_events& events = data.events;
  const auto type = static_cast<event_type>(bit_field(answer, 0, 3));
  const auto information = static_cast<notice_event>(bit_field(answer, 8, 8));
  if (type == event_type::error) {
    ++events.errors;
    want_log(data, event_log::error);
  } else if (type == event_type::health) {
    ++events.health_warnings;
    want_log(data, event_log::health);
  } else if (type == event_type::notice && information == notice_event::namespaces_changed) {
    ++events.namespace_changes;
    want_log(data, event_log::namespaces);
  } else if (type == event_type::notice && information == notice_event::firmware_activation) {
    ++events.firmware_activations;
    want_log(data, event_log::firmware);
  } else {
    ++events.others;
  }
}

/// The log is read whole and not retained, which is what clears the event.
result<> start_event_log(controller_data& data) noexcept {
  const log_source source = source_of(next_log(data));
  submission_entry command =
      get_log_command(source.page, source.bytes, data.address_of(data.admin_data.data()));
  command.cdw10 &= ~log_retain_event;
  return start_admin(data, command);
}

/// A device that has not the log of its own event is left with that.
result<bool> learn_event_log(controller_data& data, instant) noexcept {
  const auto reply = take_admin(data);
  if (!reply) {
    return false;
  }
  const event_log which = next_log(data);
  data.event_logs &= static_cast<std::uint8_t>(data.event_logs - 1);  // its bit is the lowest
  if (reply->status != 0) {
    return true;
  }
  if (which == event_log::health) {
    health_log log{};
    copy_admin_data(data, log);
    data.events.critical_warning = log.critical_warning;
  } else if (which == event_log::namespaces) {
    namespace_list changed{};
    copy_admin_data(data, changed);
    const auto is_ours = [&](std::uint32_t nsid) { return nsid == data.nsid || nsid == nsid_all; };
    data.rescan_wanted = data.rescan_wanted || std::ranges::any_of(changed, is_ours);
  }
  return true;
}

constexpr std::array event_table{
    step{"read event log", step_limit::admin, start_event_log, learn_event_log},
};

}  // namespace

void take_events(controller_data& data) noexcept {
  data.admin.poll();
  for (auto& request : data.event_requests) {
    const auto reply = request ? data.admin.take(*request) : std::nullopt;
    if (!reply) {
      continue;
    }
    request.reset();
    if (reply->status == 0) {
      count_event(data, reply->value);
    } else if (data.event_requests_allowed != 0) {
      --data.event_requests_allowed;  // it takes fewer than it said
    }
  }
}

result<> configure_events(controller_data& data) noexcept {
  data.event_requests_allowed =
      std::min(std::uint32_t{data.controller_identity.aerl} + 1, event_requests_max);
  return start_admin(
      data, set_feature_command(feature::async_event_configuration,
                                events_health_all | (data.controller_identity.oaes &
                                                     (events_namespaces | events_firmware))));
}

/// A device that does not let itself be told reports what it likes.
result<bool> until_events_configured(controller_data& data, instant) noexcept {
  return take_admin(data).has_value();
}

result<> request_events(controller_data& data) noexcept {
  submission_entry command{};
  command.opcode = static_cast<std::uint8_t>(admin_opcode::async_event_request);
  for (std::uint32_t i = 0; i < data.event_requests_allowed; ++i) {
    if (data.event_requests[i]) {
      continue;
    }
    const auto sent = data.admin.submit(command);
    if (!sent) {
      return std::unexpected{sent.error()};
    }
    data.event_requests[i] = *sent;
  }
  return {};
}

std::span<const step> event_steps() noexcept {
  return event_table;
}

}  // namespace runnel::nvme
