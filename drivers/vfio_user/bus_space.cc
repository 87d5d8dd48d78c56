#include "drivers/vfio_user/bus_space.h"

#include "mempool/base/bits.h"

namespace runnel::vfio_user {
namespace {

/// Of the largest pages that may be in it: an IOMMU maps a page as one where both addresses agree.
std::uint64_t alignment_for(std::uint64_t bytes) noexcept {
  return bytes >= gib ? gib : bytes >= 2 * mib ? 2 * mib : 4 * kib;
}

/// How far behind such an alignment it begins.
std::uint64_t offset_of(std::span<const std::byte> memory) noexcept {
  return reinterpret_cast<std::uintptr_t>(memory.data()) % alignment_for(memory.size());
}

}  // namespace

std::optional<std::uint64_t> bus_space::take(std::span<const std::byte> memory) {
  const std::uint64_t before = offset_of(memory);
  const std::scoped_lock lock{mutex_};
  const auto at = free_.take(before + memory.size(), alignment_for(memory.size()));
  return at ? std::optional{first + *at + before} : std::nullopt;
}

void bus_space::give_back(std::uint64_t at, std::span<const std::byte> memory) {
  const std::uint64_t before = offset_of(memory);
  const std::scoped_lock lock{mutex_};
  free_.give_back(at - first - before, before + memory.size());
}

}  // namespace runnel::vfio_user
