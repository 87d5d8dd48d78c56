#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "drivers/vfio/transport.h"
#include "mempool/base/error.h"

namespace runnel::vfio {

/// Understands what a device says about one of its regions: a region_info with its capability
/// chain. Every offset and count in it is the peer's and checked; a capability that we do not know
/// is skipped. Without a sparse-mmap capability a mappable region is one area.
/// @param reply  from the first byte of the structure to the end of what was received
/// @return       `fd` is -1: descriptors come beside the bytes
/// @error        protocol
[[nodiscard]] result<region_info> parse_region_info(std::span<const std::byte> reply,
                                                    std::uint32_t index);

}  // namespace runnel::vfio
