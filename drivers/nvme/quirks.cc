#include "drivers/nvme/quirks.h"

#include <algorithm>
#include <array>

namespace runnel::nvme {
namespace {

struct known_device {
  std::uint16_t vendor;
  std::uint16_t device;
  quirk_set quirks;
};

// Only what this driver would trip over. The facts are common knowledge among operating systems'
// drivers; names are of the first product that was seen.
constexpr std::array known_devices{
    known_device{0x126f, 0x2263, {quirk::no_descriptors}},                      // Silicon Motion
    known_device{0x144d, 0xa809, {quirk::no_write_zeroes}},                     // Samsung MZALQ
    known_device{0x144d, 0xa80b, {quirk::no_write_zeroes}},                     // Samsung PM9B1
    known_device{0x144d, 0xa821, {quirk::late_status}},                         // Samsung PM1725
    known_device{0x144d, 0xa822, {quirk::late_status}},                         // Samsung PM1725a
    known_device{0x15b7, 0x2001, {quirk::no_write_zeroes}},                     // SanDisk Skyhawk
    known_device{0x1bb1, 0x0100, {quirk::late_status, quirk::no_descriptors}},  // Seagate Nytro
    known_device{0x1c58, 0x0003, {quirk::late_status}},                         // HGST
    known_device{0x1c58, 0x0023, {quirk::late_status}},                         // WDC SN200
    known_device{0x1c5c, 0x1504, {quirk::no_write_zeroes}},                     // SK hynix PC400
    known_device{0x1c5f, 0x0540, {quirk::late_status}},                         // Memblaze PBlaze4
    known_device{0x1cc4, 0x6302, {quirk::no_write_zeroes}},                     // UMIS RPJTJ256
    known_device{0x1cc4, 0x6303, {quirk::no_write_zeroes}},                     // UMIS RPJTJ512
    known_device{0x1d97, 0x2263, {quirk::no_write_zeroes}},                     // SPCC
    known_device{0x1f40, 0x1602, {quirk::late_status}},                         // Netac NV7000-t
    known_device{0x8086, 0x5845, {quirk::no_namespace_list, quirk::no_write_zeroes}},  // old QEMU
};

}  // namespace

quirk_set quirks_of(std::uint32_t pci_id) noexcept {
  const auto found = std::ranges::find_if(known_devices, [pci_id](const known_device& each) {
    return (std::uint32_t{each.device} << 16U | each.vendor) == pci_id;
  });
  return found == known_devices.end() ? quirk_set{} : found->quirks;
}

}  // namespace runnel::nvme
