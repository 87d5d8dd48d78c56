#pragma once

#include <cstddef>
#include <cstdint>

#include "drivers/nvme/identify.h"

// Fields of the optional commands. Sections and mnemonics as in spec.h.
namespace runnel::nvme {

/// One range of dataset management. @spec NVM §3.2.3 figure 42
struct dataset_range {
  std::uint32_t attributes;  // hints
  std::uint32_t blocks;
  std::uint64_t first;
};
static_assert(sizeof(dataset_range) == 16);
static_assert(offsetof(dataset_range, first) == 8);

inline constexpr std::size_t dataset_ranges_max = 256;         // 0's based in dword 10 bits 7:0
inline constexpr std::uint32_t dataset_deallocate = 1U << 2U;  // dword 11
inline constexpr std::uint32_t write_zeroes_deallocate = 1U << 25U;  // dword 12
inline constexpr std::uint32_t io_directive_mask = 0xfU << 20U;      // dword 12 of write

/// submission_entry::flags, bits 1:0
inline constexpr std::uint8_t fused_first = 1;
inline constexpr std::uint8_t fused_second = 2;

// identify_controller::fuses
inline constexpr std::uint16_t fuses_compare_and_write = 1U << 0U;
// identify_controller::vwc
inline constexpr std::uint8_t vwc_broadcast_flush = 3U << 1U;
// identify_namespace::dlfeat
inline constexpr std::uint8_t dlfeat_reads_zero = 1;
inline constexpr std::uint8_t dlfeat_write_zeroes = 1U << 3U;  // takes the deallocate bit

}  // namespace runnel::nvme
