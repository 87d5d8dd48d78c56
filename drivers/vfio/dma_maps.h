#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "mempool/base/units.h"
#include "mempool/region.h"

namespace runnel::vfio {

/// Which of our memory one device may touch: what answers a device that asks for memory by message.
/// A region is in it from the start of its map until the start of its unmap, so nothing is touched
/// once its owner has taken it back.
/// @context one thread; `add` allocates
class dma_maps {
 public:
  /// @return false when a bus address of it is in the table already
  [[nodiscard]] bool add(const region& memory);
  /// @return false when no region begins at that bus address with that length
  [[nodiscard]] bool remove(iova first, std::uint64_t bytes) noexcept;
  void clear() noexcept { regions_.clear(); }
  [[nodiscard]] std::size_t size() const noexcept { return regions_.size(); }

  /// Our address of [first, first + bytes); null unless one region holds all of it and lets the
  /// device do `wanted`. The arguments are the device's: any value is fine.
  [[nodiscard]] std::byte* find(iova first, std::uint64_t bytes, access wanted) const noexcept;

 private:
  [[nodiscard]] std::size_t first_after(std::uint64_t address) const noexcept;

  std::vector<region> regions_;  // sorted by bus address, disjoint
};

}  // namespace runnel::vfio
