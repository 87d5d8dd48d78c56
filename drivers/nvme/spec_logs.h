#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "drivers/nvme/spec.h"

// Log pages and events that controllers of version 2.0 have. Sections and mnemonics as in spec.h.
namespace runnel::nvme {

// Log pages beside those of `log_page`. @spec figure 202
inline constexpr log_page feature_effects_page{0x12};
inline constexpr log_page management_effects_page{0x13};

/// Dwords by log page or by feature. @spec figures 204, 211
using supported_log = std::array<std::uint32_t, 256>;
static_assert(sizeof(supported_log) == 1024);

inline constexpr std::uint32_t log_offset_is_index = 1U << 23U;  // dword 14 of get log page

// Dwords of the effects logs beside `effect_supported` and `effect_changes_data`.
inline constexpr std::uint32_t effect_changes_capabilities = 1U << 4U;
inline constexpr std::uint32_t effect_of_namespace = 1U << 20U;
inline constexpr std::uint32_t effect_of_controller = 1U << 21U;

// identify_controller::lpa
inline constexpr std::uint8_t lpa_supported_pages = 1U << 5U;

// health_log::critical_warning
inline constexpr std::uint8_t critical_temperature = 1U << 1U;

/// Information of a `health` event.
inline constexpr std::uint8_t health_event_temperature = 1;

// Abort: submission queue in dword 10 bits 15:0, command id in 31:16; dword 0 of the answer:
inline constexpr std::uint32_t abort_not_done = 1U << 0U;

/// What `identify_cns::namespace_independent` returns. @spec §5.17.2.8 figure 280
struct identify_independent {
  std::uint8_t nsfeat;
  std::uint8_t nmic;
  std::uint8_t rescap;
  std::uint8_t fpi;
  std::uint32_t anagrpid;
  std::uint8_t nsattr;
  std::uint8_t reserved9;
  std::uint16_t nvmsetid;
  std::uint16_t endgid;
  std::uint8_t nstat;  // bit 0: ready
  std::array<std::uint8_t, 4081> reserved15;
};
static_assert(sizeof(identify_independent) == 4096);
static_assert(offsetof(identify_independent, anagrpid) == 4);
static_assert(offsetof(identify_independent, nstat) == 14);

// Get features, select 3: what can be done with a feature. @spec figure 196
inline constexpr std::uint32_t feature_saveable = 1U << 0U;
inline constexpr std::uint32_t feature_of_namespace = 1U << 1U;
inline constexpr std::uint32_t feature_changeable = 1U << 2U;
// Host identifier, dword 11: 16 bytes instead of 8; and identify_controller::ctratt
inline constexpr std::uint32_t host_identifier_extended = 1U << 0U;

}  // namespace runnel::nvme
