#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>

#include "drivers/mmio.h"
#include "drivers/vfio/transport.h"

namespace runnel::nvme {

/// One 32-bit word of BAR0 that tells the device how far a queue has come. Mapped into this process
/// it is one store; where it cannot be mapped it is a posted message of the transport.
/// @context the core of its queue; a trapped one: the core that advances the transport, too
class doorbell {
 public:
  doorbell() noexcept = default;  // rings nothing
  /// @param word  in a mapping owned by the transport
  explicit doorbell(std::byte* word) noexcept : word_{word} {}
  /// @param offset  in BAR0
  doorbell(vfio::device_transport& transport, std::uint64_t offset) noexcept
      : transport_{&transport}, offset_{offset} {}

  /// Publishes everything stored before. False: the transport has no room now, ring again later.
  [[nodiscard]] bool ring(std::uint32_t value) const noexcept {
    dma_wmb();  // pairs with the device reading queue entries after it has read the doorbell
    if (word_ != nullptr) [[likely]] {
      mmio_write(word_, value);
      return true;
    }
    return post(value);
  }

 private:
  [[gnu::cold]] bool post(std::uint32_t value) const noexcept {
    if (transport_ == nullptr) {
      return true;
    }
    const auto bytes = std::bit_cast<std::array<std::byte, sizeof value>>(value);
    const auto posted =
        transport_->region_post(static_cast<std::uint32_t>(vfio::pci_region::bar0), offset_, bytes);
    // A device that is gone hears no doorbell; its queues are failed by the controller.
    return posted || posted.error().code != errc::queue_full;
  }

  std::byte* word_ = nullptr;
  vfio::device_transport* transport_ = nullptr;
  std::uint64_t offset_ = 0;
};

}  // namespace runnel::nvme
