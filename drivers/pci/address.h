#pragma once

#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace runnel::pci {

/// Where a function sits: domain:bus:device.function, as in 0000:01:00.0.
struct address {
  std::uint32_t domain = 0;
  std::uint8_t bus = 0;
  std::uint8_t device = 0;    // 0 to 31
  std::uint8_t function = 0;  // 0 to 7

  friend auto operator<=>(const address&, const address&) = default;
};

/// "0000:01:00.0", or "01:00.0" in domain 0. Domains have 4 to 8 digits, as the kernel writes them.
/// @return empty for everything else
[[nodiscard]] std::optional<address> parse_address(std::string_view text) noexcept;

/// As the kernel writes it in sysfs.
[[nodiscard]] std::string to_string(const address& where);

}  // namespace runnel::pci
