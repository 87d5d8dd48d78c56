#pragma once

#include <cstdint>
#include <initializer_list>

#include "mempool/base/clock.h"

// Devices that do not do what they say, by their PCI ids, and what is done about it.
namespace runnel::nvme {

enum class quirk : std::uint8_t {
  late_status,        // CSTS may not be read for a while after CC.EN has changed
  no_namespace_list,  // Identify CNS 02h is not to be relied on: namespaces are 1 to NN
  no_descriptors,     // Identify CNS 03h is not to be asked for
  no_write_zeroes,    // offered, but refused or wrong
};

/// How long `late_status` is.
inline constexpr nanoseconds late_status_delay = std::chrono::milliseconds{2300};

/// A set of quirks, a bit each.
class quirk_set {
 public:
  constexpr quirk_set() noexcept = default;
  constexpr quirk_set(std::initializer_list<quirk> members) noexcept {
    for (const quirk each : members) {
      bits_ |= bit(each);
    }
  }
  [[nodiscard]] constexpr bool contains(quirk which) const noexcept {
    return (bits_ & bit(which)) != 0;
  }
  [[nodiscard]] constexpr bool empty() const noexcept { return bits_ == 0; }

 private:
  static constexpr std::uint32_t bit(quirk which) noexcept {
    return std::uint32_t{1} << static_cast<unsigned>(which);
  }
  std::uint32_t bits_ = 0;
};

/// @param pci_id  vendor in the low half, device in the high half, as configuration space has them
[[nodiscard]] quirk_set quirks_of(std::uint32_t pci_id) noexcept;

}  // namespace runnel::nvme
