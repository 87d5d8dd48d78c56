#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "drivers/vfio/transport.h"

namespace runnel::vfio_user {

/// Whether clients may map parts of the region.
[[nodiscard]] inline bool is_mappable(const vfio::region_info& region) noexcept {
  return region.fd >= 0 && !region.areas.empty();
}

/// Bytes of the whole description: the fixed part, what kind it is, the areas that may be mapped.
[[nodiscard]] std::size_t region_info_bytes(const vfio::region_info& region) noexcept;

/// Writes the payload of a DEVICE_GET_REGION_INFO reply: everything when `into` has room for
/// `region_info_bytes`, else the fixed part alone, which tells how much room it takes.
/// @pre `into` has room for the fixed part
void encode_region_info(const vfio::region_info& region, std::uint32_t index,
                        std::span<std::byte> into) noexcept;

}  // namespace runnel::vfio_user
