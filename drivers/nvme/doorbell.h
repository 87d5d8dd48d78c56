#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>

#include "drivers/mmio.h"
#include "drivers/nvme/transport_guard.h"
#include "drivers/vfio/transport.h"

namespace runnel::nvme {

/// Where a doorbell's value is left in memory, and where the device says which value it wants to be
/// told of. @spec §5.8, annex B.5
struct shadow_doorbell {
  std::uint32_t* value = nullptr;              // null: there is none
  const std::uint32_t* event_index = nullptr;  // the device's
};

/// Whether going from `before` to `now` passes what the device wants to be told of: the device is
/// told once the value is beyond its event index. Values are below 65,536 and start again at 0 at
/// the end of the ring.
[[nodiscard]] constexpr bool passes_event_index(std::uint32_t event_index, std::uint32_t now,
                                                std::uint32_t before) noexcept {
  const auto beyond = static_cast<std::uint16_t>(now - event_index - 1);
  return beyond < static_cast<std::uint16_t>(now - before);
}

/// One 32-bit word of BAR0 that tells the device how far a queue has come. Mapped into this process
/// it is one store; where it cannot be mapped it is a posted message of the transport. With a
/// shadow the value is left in memory, and the word is for when the device wants to be told.
/// @context the core of its queue; a trapped one that has no guard: the core that advances the
///          transport, too
class doorbell {
 public:
  doorbell() noexcept = default;  // rings nothing
  /// @param word  in a mapping owned by the transport
  explicit doorbell(std::byte* word) noexcept : word_{word} {}
  /// @param offset  in BAR0
  doorbell(vfio::device_transport& transport, std::uint64_t offset) noexcept
      : transport_{&transport}, offset_{offset} {}

  /// @param shadow  of this word, both zero as long as the device does not know the queue
  [[nodiscard]] doorbell with(const shadow_doorbell& shadow) const noexcept {
    doorbell shadowed = *this;
    shadowed.shadow_ = shadow;
    return shadowed;
  }

  /// The same, for queues on other cores than that which advances the transport.
  [[nodiscard]] doorbell guarded_by(transport_guard& guard) const noexcept {
    doorbell guarded = *this;
    guarded.guard_ = &guard;
    return guarded;
  }

  /// Publishes everything stored before, to a device that looks at the shadow by itself; `tell`
  /// follows before the turn ends. Where there is no shadow it rings. False: the transport has no
  /// room now, or another core has it; again later.
  [[nodiscard]] bool show(std::uint32_t value) noexcept {
    dma_wmb();  // pairs with the device reading queue entries after it has read the doorbell
    if (shadow_.value == nullptr) [[likely]] {
      return store(value);
    }
    write_once(*shadow_.value, value);
    shown_ = value;
    return true;
  }
  /// Rings if the device wants to be told of what it was shown. False as above.
  [[nodiscard]] bool tell() noexcept { return shown_ == told_ || tell_if_wanted(); }
  [[nodiscard]] bool ring(std::uint32_t value) noexcept { return show(value) && tell(); }
  /// @pre the device forgot the queue
  void rewind() noexcept { shown_ = told_ = 0; }

 private:
  [[nodiscard]] bool store(std::uint32_t value) const noexcept {
    if (word_ != nullptr) [[likely]] {
      mmio_write(word_, value);
      return true;
    }
    return post(value);
  }

  [[nodiscard]] bool tell_if_wanted() noexcept {
    // pairs with the device, which writes the index and then reads the value: one sees the other
    dma_mb();
    if (passes_event_index(read_once(*shadow_.event_index), shown_, told_) && !store(shown_)) {
      return false;
    }
    told_ = shown_;
    return true;
  }

  [[gnu::cold]] bool post(std::uint32_t value) const noexcept {
    if (transport_ == nullptr) {
      return true;
    }
    if (guard_ != nullptr && !guard_->try_enter()) {
      return false;
    }
    const auto bytes = std::bit_cast<std::array<std::byte, sizeof value>>(value);
    const auto posted =
        transport_->region_post(static_cast<std::uint32_t>(vfio::pci_region::bar0), offset_, bytes);
    if (guard_ != nullptr) {
      guard_->leave();
    }
    // A device that is gone hears no doorbell; its queues are failed by the controller.
    return posted || posted.error().code != errc::queue_full;
  }

  std::byte* word_ = nullptr;
  vfio::device_transport* transport_ = nullptr;
  std::uint64_t offset_ = 0;
  shadow_doorbell shadow_;
  // With a shadow, what it holds, and up to where the device knows or does not care; remembered
  // here, for the device can write the shadow, too.
  std::uint32_t shown_ = 0;
  std::uint32_t told_ = 0;
  transport_guard* guard_ = nullptr;  // of `transport_`, where several cores use it
};

}  // namespace runnel::nvme
