#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "drivers/vfio/domain.h"
#include "drivers/vfio/transport.h"
#include "mempool/base/clock.h"
#include "mempool/base/error.h"
#include "mempool/base/units.h"

namespace runnel::sim {

/// A transport with the echo device at its far end, both driven by the test. What the conformance
/// suite needs to know of the far side goes through here, so that any transport can be put under
/// it: one that speaks to a server in this thread, or to a kernel.
class transport_under_test {
 public:
  virtual ~transport_under_test() = default;

  [[nodiscard]] virtual vfio::device_transport& transport() = 0;
  [[nodiscard]] virtual vfio::iommu_domain& domain() = 0;

  /// Both sides do what they can do now. Time stands still.
  virtual void turn() = 0;
  /// Time passes; nothing else happens before the next turn.
  virtual void pass(nanoseconds duration) = 0;

  // The device's side.

  /// A word of BAR0 as the device has it.
  [[nodiscard]] virtual std::uint32_t device_word(std::uint64_t offset) = 0;
  virtual void set_device_word(std::uint64_t offset, std::uint32_t value) = 0;
  /// The device raises a vector of MSI-X.
  virtual void raise(std::uint32_t vector) = 0;
  /// The device reads or writes memory at a bus address. @return false when it may not
  [[nodiscard]] virtual bool device_reads(iova first, std::span<std::byte> into) = 0;
  [[nodiscard]] virtual bool device_writes(iova first, std::span<const std::byte> bytes) = 0;
  /// While on, the device answers nothing; what was asked meanwhile is answered afterwards.
  virtual void stall(bool on) = 0;
  /// The device, or its process, is no more.
  virtual void vanish() = 0;
};

}  // namespace runnel::sim
