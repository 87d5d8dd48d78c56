#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "apps/target/io_path.h"
#include "apps/target/namespace.h"
#include "apps/target/subsystem.h"
#include "drivers/nvme/identify.h"

// What a controller says of itself. Pure functions into the structures of the specification.
namespace runnel::target {

inline constexpr std::uint32_t nvme_version = 0x00010400;  // what 2.0 adds to 1.4 nobody needs here

/// @param controller_id  unique among the controllers of the subsystem
/// @spec NVMe Base 2.0 figure 275
[[nodiscard]] nvme::identify_controller describe_controller(const subsystem& system,
                                                            std::uint16_t controller_id);
/// @spec NVM Command Set 1.0 figure 97
[[nodiscard]] nvme::identify_namespace describe_namespace(const exported_namespace& space);

/// Ids above `after`, ascending.
[[nodiscard]] nvme::namespace_list list_namespaces(const subsystem& system, std::uint32_t after);

/// @spec NVMe Base 2.0 figure 277
[[nodiscard]] std::array<std::byte, nvme::identify_bytes> describe_ids(
    const namespace_identity& identity);

[[nodiscard]] nvme::health_log describe_health(const io_counters& counters);
[[nodiscard]] nvme::firmware_slot_log describe_firmware(const subsystem& system);

}  // namespace runnel::target
