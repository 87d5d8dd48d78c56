#include "apps/target/pci_config.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "mempool/base/check.h"
#include "mempool/base/checked.h"

namespace runnel::target {
namespace {

// Where things are. The capabilities follow each other in this order.
enum : std::size_t {
  at_vendor = 0x00,
  at_device = 0x02,
  at_command = 0x04,
  at_status = 0x06,
  at_class = 0x08,  // revision, then three bytes of class
  at_cache_line = 0x0c,
  at_bar0 = 0x10,
  at_bar4 = 0x20,
  at_bar5 = 0x24,
  at_subsystem_vendor = 0x2c,
  at_subsystem = 0x2e,
  at_capabilities = 0x34,
  at_interrupt_line = 0x3c,
  at_interrupt_pin = 0x3d,
  at_power = 0x40,
  at_express = 0x48,
  at_express_control = at_express + 8,
  at_msix = 0x84,
  at_msix_control = at_msix + 2,
};

constexpr std::uint16_t command_memory = 1U << 1U;
constexpr std::uint16_t command_bus_master = 1U << 2U;
constexpr std::uint16_t command_parity = 1U << 6U;
constexpr std::uint16_t command_system_errors = 1U << 8U;
constexpr std::uint16_t command_intx_disable = 1U << 10U;
constexpr std::uint16_t status_capabilities = 1U << 4U;
constexpr std::uint16_t express_control_reset = 1U << 15U;  // reads as zero
constexpr std::uint16_t msix_enable = 1U << 15U;
constexpr std::uint16_t msix_mask_all = 1U << 14U;

constexpr std::uint16_t device_id = 0x0001;
constexpr std::uint32_t class_nvme = 0x010802;

}  // namespace

template <class Word>
void pci_config::set(std::size_t offset, Word value, Word writable) noexcept {
  std::memcpy(&image_[offset], &value, sizeof value);
  std::memcpy(&writable_[offset], &writable, sizeof writable);
}

pci_config::pci_config(const pci_config_options& options) {
  CHECK(options.vector_count >= 1 && options.vector_count <= 2048);
  describe_header(options);
  describe_capabilities(options);
  initial_ = image_;
}

void pci_config::describe_header(const pci_config_options& options) noexcept {
  set<std::uint16_t>(at_vendor, vendor_id);
  set<std::uint16_t>(at_device, device_id);
  set<std::uint16_t>(at_command, 0,
                     command_memory | command_bus_master | command_parity | command_system_errors |
                         command_intx_disable);
  set<std::uint16_t>(at_status, status_capabilities);
  set<std::uint32_t>(at_class, class_nvme << 8U);
  set<std::uint8_t>(at_cache_line, 0, 0xff);
  for (const auto& [offset, size] :
       {std::pair{at_bar0, options.bar0_bytes}, std::pair{at_bar4, options.bar4_bytes},
        std::pair{at_bar5, options.bar5_bytes}}) {
    CHECK(std::has_single_bit(size) && size >= 16);
    set<std::uint32_t>(offset, 0, ~(size - 1));  // 32-bit memory, not prefetchable
  }
  set<std::uint16_t>(at_subsystem_vendor, vendor_id);
  set<std::uint16_t>(at_subsystem, device_id);
  set<std::uint8_t>(at_capabilities, at_power);
  set<std::uint8_t>(at_interrupt_line, 0, 0xff);
  set<std::uint8_t>(at_interrupt_pin, 1);  // INTA
}

void pci_config::describe_capabilities(const pci_config_options& options) noexcept {
  // Power management 1.2: D0 and D3hot, and a return to D0 keeps the state.
  set<std::uint16_t>(at_power, 0x01 | at_express << 8U);
  set<std::uint16_t>(at_power + 2, 0x0003);
  set<std::uint16_t>(at_power + 4, 0x0008, 0x0003);

  // PCI Express 2, endpoint, function level reset; one lane of 2.5 GT/s, up.
  set<std::uint16_t>(at_express, 0x10 | at_msix << 8U);
  set<std::uint16_t>(at_express + 2, 0x0002);
  set<std::uint32_t>(at_express + 4, 1U << 28U | 1U << 15U);
  set<std::uint16_t>(at_express_control, 0, 0x7fff);
  set<std::uint32_t>(at_express + 12, 0x0011);
  set<std::uint16_t>(at_express + 16, 0, 0x0043);
  set<std::uint16_t>(at_express + 18, 0x0011);

  // MSI-X: table at the start of BAR 4, pending bits at the start of BAR 5.
  set<std::uint16_t>(at_msix, 0x11);
  set<std::uint16_t>(at_msix_control, static_cast<std::uint16_t>(options.vector_count - 1),
                     msix_enable | msix_mask_all);
  set<std::uint32_t>(at_msix + 4, 4);
  set<std::uint32_t>(at_msix + 8, 5);
}

std::uint16_t pci_config::word_at(std::size_t offset) const noexcept {
  std::uint16_t word = 0;
  std::memcpy(&word, &image_[offset], sizeof word);
  return word;
}

void pci_config::read(std::size_t offset, std::span<std::byte> out) const noexcept {
  CHECK(range_within(offset, out.size(), bytes));
  std::ranges::copy(std::span{image_}.subspan(offset, out.size()), out.begin());
}

pci_config_effects pci_config::write(std::size_t offset, std::span<const std::byte> in) noexcept {
  CHECK(range_within(offset, in.size(), bytes));
  const std::uint16_t command = word_at(at_command);
  const std::uint16_t msix = word_at(at_msix_control);
  for (std::size_t i = 0; i < in.size(); ++i) {
    std::byte& at = image_[offset + i];
    const std::byte mask = writable_[offset + i];
    at = (at & ~mask) | (in[i] & mask);
  }
  // The request for a reset is the top bit of the control word's second byte. It is not kept.
  constexpr std::size_t reset_byte = at_express_control + 1;
  const bool reset =
      offset <= reset_byte && reset_byte - offset < in.size() &&
      (in[reset_byte - offset] & std::byte{express_control_reset >> 8U}) != std::byte{};
  return {.reset = reset,
          .command = word_at(at_command) != command,
          .interrupts = word_at(at_msix_control) != msix};
}

bool pci_config::bus_master() const noexcept {
  return (word_at(at_command) & command_bus_master) != 0;
}
bool pci_config::intx_disabled() const noexcept {
  return (word_at(at_command) & command_intx_disable) != 0;
}
bool pci_config::msix_enabled() const noexcept {
  return (word_at(at_msix_control) & msix_enable) != 0;
}
bool pci_config::msix_masked() const noexcept {
  return (word_at(at_msix_control) & msix_mask_all) != 0;
}

}  // namespace runnel::target
