#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace runnel::target {

/// With device 0001h the ids that vfio-user NVMe controllers have in common; no driver keeps quirks
/// for them.
inline constexpr std::uint16_t vendor_id = 0x4e58;

struct pci_config_options {
  std::uint32_t bar0_bytes = 0x4000;  // registers and doorbells; BAR sizes are powers of two
  std::uint32_t bar4_bytes = 0x1000;  // MSI-X table
  std::uint32_t bar5_bytes = 0x1000;  // MSI-X pending bits
  std::uint16_t vector_count = 1;     // 1..2048
};

/// What a write to configuration space asked of the function.
struct pci_config_effects {
  bool reset = false;       // function level reset
  bool command = false;     // the command register changed
  bool interrupts = false;  // MSI-X was enabled, disabled, masked or unmasked
};

/// The configuration space of an NVMe function: header, power management, PCI Express and MSI-X
/// capabilities. Bytes and a mask of the bits that a host may change; reads and writes of any width
/// at any offset are well defined. BAR sizing needs nothing more: the address bits below a BAR's
/// size cannot be changed.
/// @spec PCI Express Base 4.0 §7.5, §7.7.2
class pci_config {
 public:
  static constexpr std::size_t bytes = 4096;

  explicit pci_config(const pci_config_options& options);

  /// @pre the range lies within the space, for both
  void read(std::size_t offset, std::span<std::byte> out) const noexcept;
  pci_config_effects write(std::size_t offset, std::span<const std::byte> in) noexcept;

  /// As after power-on; BARs and the command register too.
  void reset() noexcept { image_ = initial_; }

  [[nodiscard]] bool bus_master() const noexcept;
  [[nodiscard]] bool intx_disabled() const noexcept;
  [[nodiscard]] bool msix_enabled() const noexcept;
  [[nodiscard]] bool msix_masked() const noexcept;  // all vectors

 private:
  using space = std::array<std::byte, bytes>;
  template <class Word>
  void set(std::size_t offset, Word value, Word writable = 0) noexcept;
  [[nodiscard]] std::uint16_t word_at(std::size_t offset) const noexcept;
  void describe_header(const pci_config_options& options) noexcept;
  void describe_capabilities(const pci_config_options& options) noexcept;

  space image_{};
  space writable_{};
  space initial_{};
};

}  // namespace runnel::target
