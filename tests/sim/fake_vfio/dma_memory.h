#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "drivers/vfio/domain.h"
#include "drivers/vfio/transport.h"
#include "mempool/region.h"
#include "tests/sim/edge_numbers.h"

namespace runnel::sim {

/// Memory for DMA, at this bus address.
class dma_memory {
 public:
  static constexpr std::uint64_t bus = 0x4000'0000;

  [[nodiscard]] region piece(std::size_t first_page, std::size_t pages,
                             std::uint64_t at = bus) noexcept {
    region made;
    made.address = bytes_.data() + first_page * page;
    made.length = pages * page;
    made.iova_offset = at - reinterpret_cast<std::uintptr_t>(bytes_.data());
    return made;
  }
  [[nodiscard]] std::span<std::byte> bytes() noexcept { return bytes_; }

 private:
  alignas(page) std::array<std::byte, 16 * page> bytes_{};
};

inline constexpr error good{};

/// The end of what was started; a failure to start counts as one.
[[nodiscard]] inline vfio::transport_reply finish(vfio::device_transport& device,
                                                  result<ticket> started) {
  if (!started) {
    return {.status = started.error(), .value = 0, .data = {}};
  }
  const auto reply = device.take(*started);
  return reply ? *reply : vfio::transport_reply{.status = {errc::busy}, .value = 0, .data = {}};
}
[[nodiscard]] inline error finish(const result<>& ended) {
  return ended ? error{} : ended.error();
}
[[nodiscard]] inline error finish(vfio::iommu_domain& domain, result<ticket> started) {
  return started ? domain.take(*started)->status : started.error();
}

}  // namespace runnel::sim
