#pragma once

#include <cstdint>
#include <optional>

#include "drivers/nvme/spec.h"
#include "drivers/vfio/transport.h"
#include "mempool/base/check.h"
#include "mempool/base/error.h"

namespace runnel::nvme {

/// Offsets in the configuration space of a PCI function. @spec PCI Local Bus 3.0 §6.1
inline constexpr std::uint64_t pci_id = 0x00;       // vendor, device: 2 bytes each
inline constexpr std::uint64_t pci_command = 0x04;  // 2 bytes
inline constexpr std::uint16_t pci_command_memory = 1U << 1U;
inline constexpr std::uint16_t pci_command_bus_master = 1U << 2U;
inline constexpr std::uint16_t pci_command_reserved = 0xf800;

/// Registers of one device, one access at a time: start it, then `take` its result.
/// @context the thread that advances the transport
class register_port {
 public:
  explicit register_port(vfio::device_transport& transport) noexcept : transport_{&transport} {}

  [[nodiscard]] bool idle() const noexcept { return !under_way_; }

  /// @param bytes  2, 4 or 8, as wide as the register. @error queue_full, device_gone
  [[nodiscard]] result<> read(vfio::pci_region where, std::uint64_t offset,
                              std::uint32_t bytes) noexcept;
  [[nodiscard]] result<> write(vfio::pci_region where, std::uint64_t offset, std::uint64_t value,
                               std::uint32_t bytes) noexcept;

  [[nodiscard]] result<> read(reg which, std::uint32_t bytes = 4) noexcept {
    return read(vfio::pci_region::bar0, static_cast<std::uint64_t>(which), bytes);
  }
  [[nodiscard]] result<> write(reg which, std::uint64_t value, std::uint32_t bytes = 4) noexcept {
    return write(vfio::pci_region::bar0, static_cast<std::uint64_t>(which), value, bytes);
  }

  /// What was read (0 after a write), once; empty while under way.
  /// @error device_gone: also when all bits read as 1, as they do where no device is
  [[nodiscard]] std::optional<result<std::uint64_t>> take() noexcept;

  /// Nobody takes the result of the access under way, if there is one.
  void abandon() noexcept;

 private:
  vfio::device_transport* transport_;
  std::optional<ticket> under_way_;
  std::uint64_t absent_value_ = 0;  // what a read of an absent device gives; 0: not a read
};

}  // namespace runnel::nvme
