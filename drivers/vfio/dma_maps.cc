#include "drivers/vfio/dma_maps.h"

#include <algorithm>

#include "mempool/base/checked.h"

namespace runnel::vfio {

bool dma_maps::add(const region& memory) {
  const std::uint64_t first = raw(memory.first_iova());
  const std::size_t next = first_after(first);
  const auto overlaps = [&](const region& other) {
    return ranges_overlap(first, memory.length, raw(other.first_iova()), other.length);
  };
  if ((next > 0 && overlaps(regions_[next - 1])) ||
      (next < regions_.size() && overlaps(regions_[next]))) {
    return false;
  }
  regions_.insert(regions_.begin() + static_cast<std::ptrdiff_t>(next), memory);
  return true;
}

bool dma_maps::remove(iova first, std::uint64_t bytes) noexcept {
  const std::size_t next = first_after(raw(first));
  if (next == 0) {
    return false;
  }
  const region& candidate = regions_[next - 1];
  if (candidate.first_iova() != first || candidate.length != bytes) {
    return false;
  }
  regions_.erase(regions_.begin() + static_cast<std::ptrdiff_t>(next - 1));
  return true;
}

std::byte* dma_maps::find(iova first, std::uint64_t bytes, access wanted) const noexcept {
  const std::size_t next = first_after(raw(first));
  if (next == 0) {
    return nullptr;
  }
  const region& candidate = regions_[next - 1];
  const std::uint64_t offset = raw(first) - raw(candidate.first_iova());
  if (!range_within(offset, bytes, candidate.length) || !allows(candidate.permissions, wanted)) {
    return nullptr;
  }
  return candidate.address + offset;
}

/// Index of the first region whose bus address is greater.
std::size_t dma_maps::first_after(std::uint64_t address) const noexcept {
  const auto found = std::ranges::upper_bound(
      regions_, address, {}, [](const region& each) { return raw(each.first_iova()); });
  return static_cast<std::size_t>(found - regions_.begin());
}

}  // namespace runnel::vfio
