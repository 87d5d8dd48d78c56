#include "drivers/pci/config_space.h"

#include <bitset>

namespace runnel::pci {
namespace {

constexpr std::uint16_t vendor_offset = 0x00;
constexpr std::uint16_t status_offset = 0x06;
constexpr std::uint32_t status_has_list = 0x10;
constexpr std::uint16_t list_offset = 0x34;
constexpr std::uint16_t header_bytes = 0x40;
constexpr std::uint32_t dword = 4;
constexpr std::uint32_t all_ones = 0xffff'ffff;

/// Dwords of the space that a list has been to, so that it cannot come back.
class visits {
 public:
  /// @return false: it has been there, or the place is none
  [[nodiscard]] bool enter(std::uint32_t offset, std::uint16_t first, std::uint16_t end) noexcept {
    if (offset < first || offset + dword > end || offset % dword != 0 || seen_[offset / dword]) {
      return false;
    }
    seen_.set(offset / dword);
    return true;
  }

 private:
  std::bitset<extended_space_bytes / dword> seen_;
};

/// A list that leads nowhere: is the device still there?
std::unexpected<error> why_broken(config_reader& space) {
  const auto vendor = space.read(vendor_offset, 2);
  return fail(vendor && *vendor == 0xffff ? errc::device_gone : errc::protocol);
}

}  // namespace

result<std::vector<capability>> list_capabilities(config_reader& space) {
  const auto status = space.read(status_offset, 2);
  if (!status) {
    return std::unexpected{status.error()};
  }
  std::vector<capability> found;
  if ((*status & status_has_list) == 0) {
    return found;
  }
  const auto first = space.read(list_offset, 1);
  if (!first) {
    return std::unexpected{first.error()};
  }
  visits been;
  std::uint32_t offset = *first & ~3U;  // the two low bits are reserved, and to be masked
  while (offset != 0) {
    if (!been.enter(offset, header_bytes, legacy_space_bytes)) {
      return why_broken(space);
    }
    const auto head = space.read(static_cast<std::uint16_t>(offset), 2);
    if (!head) {
      return std::unexpected{head.error()};
    }
    found.push_back({.id = static_cast<std::uint16_t>(*head & 0xffU),
                     .offset = static_cast<std::uint16_t>(offset)});
    offset = *head >> 8U & ~3U;
  }
  return found;
}

result<std::vector<capability>> list_extended_capabilities(config_reader& space) {
  visits been;
  std::vector<capability> found;
  std::uint32_t offset = legacy_space_bytes;
  while (offset != 0) {
    if (!been.enter(offset, legacy_space_bytes, extended_space_bytes)) {
      return why_broken(space);
    }
    const auto head = space.read(static_cast<std::uint16_t>(offset), 4);
    if (!head) {
      return std::unexpected{head.error()};
    }
    if (*head == all_ones) {
      return why_broken(space);
    }
    if (*head != 0) {  // zero at the start: an empty list
      found.push_back({.id = static_cast<std::uint16_t>(*head & 0xffffU),
                       .offset = static_cast<std::uint16_t>(offset),
                       .version = static_cast<std::uint8_t>(*head >> 16U & 0xfU)});
    }
    offset = *head >> 20U & ~3U;
  }
  return found;
}

result<std::uint32_t> msix_vectors(config_reader& space, const capability& msix) {
  const auto control = space.read(static_cast<std::uint16_t>(msix.offset + 2), 2);
  if (!control) {
    return std::unexpected{control.error()};
  }
  return (*control & 0x7ffU) + 1;  // stored as one less
}

}  // namespace runnel::pci
