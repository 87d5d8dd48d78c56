#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "apps/target/controller_state.h"
#include "apps/target/io_shared.h"
#include "apps/target/subsystem.h"
#include "drivers/nvme/identify.h"
#include "drivers/nvme/spec.h"
#include "drivers/nvme/spec_logs.h"

// The log pages, as pure functions; `describe_errors` is with the errors.
namespace runnel::target {

/// Everything that a controller counted: what cannot be known yet is zero.
/// @spec NVMe Base 2.0 §5.16.1.3
[[nodiscard]] nvme::health_log describe_health(const subsystem& system,
                                               const controller_state& state,
                                               const io_counters& counters) noexcept;
/// The bits of its first byte: a threshold of the host may make a cool room too hot.
[[nodiscard]] std::uint8_t critical_warnings(const feature_state& features) noexcept;

[[nodiscard]] nvme::firmware_slot_log describe_firmware(const subsystem& system);

/// What `get_log_page` has. @spec NVMe Base 2.0 §5.16.1.1
[[nodiscard]] nvme::supported_log describe_log_pages() noexcept;

/// What is offered of admin and I/O commands, and what these change. @spec §5.16.1.6
[[nodiscard]] nvme::effects_log describe_command_effects(const subsystem& system,
                                                         bool shadow_doorbells) noexcept;

/// Puts a namespace on the list of those that changed since the host read it.
void note_changed_namespace(changed_state& changed, std::uint32_t nsid) noexcept;
/// @spec NVMe Base 2.0 §5.16.1.5
[[nodiscard]] nvme::namespace_list describe_changed(const changed_state& changed) noexcept;

}  // namespace runnel::target
