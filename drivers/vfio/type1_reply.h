#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "drivers/vfio/domain.h"
#include "mempool/base/error.h"

namespace runnel::vfio {

/// What a container says about its IOMMU.
struct type1_info {
  std::uint64_t page_bytes = 4096;                   // the smallest that maps are made of
  std::vector<iova_range> ranges{iova_range{}};      // everything, before kernel 5.4
  std::optional<std::uint32_t> maps_available = {};  // not told before kernel 5.10
};

/// Understands an iommu_type1_info with its capability chain; what we do not know is skipped.
/// @param reply  from the first byte of the structure to the end of what was received
/// @error        protocol
[[nodiscard]] result<type1_info> parse_type1_info(std::span<const std::byte> reply);

}  // namespace runnel::vfio
