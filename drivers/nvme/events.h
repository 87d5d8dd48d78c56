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
};

}  // namespace runnel::nvme
