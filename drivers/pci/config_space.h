#pragma once

#include <cstdint>
#include <vector>

#include "mempool/base/error.h"

// The configuration space of a function, and the lists of capabilities in it. Whatever it says is
// the device's word: offsets are judged, and lists end.
namespace runnel::pci {

inline constexpr std::uint16_t legacy_space_bytes = 256;
inline constexpr std::uint16_t extended_space_bytes = 4096;

/// Numbers of capabilities. @spec PCI Code and ID Assignment 1.15
enum class capability_id : std::uint16_t { power = 0x01, msi = 0x05, express = 0x10, msix = 0x11 };

/// How configuration space is reached: through the kernel, or bytes of a test.
class config_reader {
 public:
  virtual ~config_reader() = default;
  /// @param bytes  1, 2 or 4; `offset` is a multiple of it
  /// @error os, device_gone; unsupported: the space, or what this user sees of it, ends before
  [[nodiscard]] virtual result<std::uint32_t> read(std::uint16_t offset,
                                                   std::uint16_t bytes) noexcept = 0;
};

struct capability {
  std::uint16_t id = 0;
  std::uint16_t offset = 0;
  std::uint8_t version = 0;  // of extended ones

  friend bool operator==(const capability&, const capability&) = default;
};

/// The list that starts in the header; empty when the device has none.
/// @error protocol: it leaves the space or goes in circles; device_gone: it reads as all ones;
///        what the reader says
/// @spec PCI Local Bus 3.0 §6.7
[[nodiscard]] result<std::vector<capability>> list_capabilities(config_reader& space);

/// The list at 256, of PCI Express devices.
/// @error as above; unsupported: the space ends at 256
/// @spec PCI Express Base 5.0 §7.6.3
[[nodiscard]] result<std::vector<capability>> list_extended_capabilities(config_reader& space);

/// Entries of the MSI-X table. @spec PCI Local Bus 3.0 §6.8.2.3
[[nodiscard]] result<std::uint32_t> msix_vectors(config_reader& space, const capability& msix);

}  // namespace runnel::pci
