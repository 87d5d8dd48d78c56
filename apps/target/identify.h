#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "apps/target/namespace.h"
#include "apps/target/subsystem.h"
#include "drivers/nvme/identify.h"
#include "drivers/nvme/spec.h"
#include "drivers/nvme/spec_logs.h"

// What a controller says of itself. Pure functions into the structures of the specification.
namespace runnel::target {

inline constexpr std::uint32_t nvme_version = nvme::version(2, 0);

/// @param controller_id  unique among the controllers of the subsystem
/// @spec NVMe Base 2.0 figure 275
[[nodiscard]] nvme::identify_controller describe_controller(const subsystem& system,
                                                            std::uint16_t controller_id,
                                                            bool shadow_doorbells);
/// @spec NVM Command Set 1.0 figure 97
[[nodiscard]] nvme::identify_namespace describe_namespace(const exported_namespace& space);

/// Ids above `after`, ascending.
[[nodiscard]] nvme::namespace_list list_namespaces(const subsystem& system, std::uint32_t after);

/// @spec NVMe Base 2.0 figure 277
[[nodiscard]] std::array<std::byte, nvme::identify_bytes> describe_ids(
    const namespace_identity& identity);

/// Of every namespace. @spec NVMe Base 2.0 §5.17.2.8
[[nodiscard]] nvme::identify_independent describe_independent();

/// Which command sets may be used together. @spec NVMe Base 2.0 §5.17.2.21
[[nodiscard]] std::array<std::uint64_t, 512> describe_command_sets();

}  // namespace runnel::target
