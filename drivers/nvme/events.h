#pragma once

#include <cstdint>
#include <optional>

#include "mempool/base/error.h"

namespace runnel::nvme {

/// What has happened to a controller since it was made, as counters: however much a device reports,
/// this is all that is kept.
struct controller_events {
  std::uint64_t aborts = 0;             // I/O commands over their time that it was told to abort
  std::uint64_t resets = 0;             // begun by the driver itself
  std::optional<failure> reset_reason;  // what the last of them was to mend
  std::uint64_t resizes = 0;            // the namespace had another size; `info()` has the new one

  // What the device reported by itself. The log that tells more was read, which clears the event;
  // most devices keep its contents, for `read_log`.
  std::uint64_t errors = 0;
  std::uint64_t health_warnings = 0;
  std::uint64_t namespace_changes = 0;  // of any namespace
  std::uint64_t firmware_activations = 0;
  std::uint64_t others = 0;
  std::uint8_t critical_warning = 0;  // health_log::critical_warning after the last health warning
};

/// Asynchronous event requests at a device at once: one of each kind that we expect. They are
/// renewed once a second, so that is also as many events a second as are heard of.
inline constexpr std::uint32_t event_requests_max = 4;

/// Logs that tell more of an event; bits of `controller_data::event_logs`.
enum class event_log : std::uint8_t { error, health, namespaces, firmware };

}  // namespace runnel::nvme
