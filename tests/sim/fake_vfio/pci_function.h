#pragma once

#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <utility>

#include "drivers/vfio/transport.h"
#include "mempool/base/check.h"
#include "mempool/base/checked.h"
#include "mempool/base/unique_fd.h"
#include "tests/sim/fake_vfio/address_space.h"
#include "tests/sim/fake_vfio/interrupts.h"

namespace runnel::sim {

struct function_options {
  std::string address = "0000:01:00.0";
  int group = 12;
  std::string driver = "vfio-pci";  // who has it
  std::string node = "vfio0";       // in /dev/vfio/devices
  interrupts::layout irqs = {};
  bool msix_mappable = true;   // the whole BAR may be mapped, not only around the MSI-X table
  bool resets = true;          // by itself
  bool slot_resets = true;     // with all functions of its slot
  unsigned address_bits = 48;  // that its IOMMU translates
  bool no_iommu = false;       // nothing translates: it reaches all memory
  std::string token = {};      // a VF's, which its user must know
  bool has_virtual_functions = false;                // so that a token can be set
  std::optional<vfio::region_type> own_region = {};  // one beyond the numbered ones
  bool pasids = false;  // it and its IOMMU know several address spaces at a time
};

/// A PCI function, NVMe-like: BAR0 with registers, doorbells and the MSI-X table, configuration
/// space with a capability list. It remembers what is written to it.
class pci_function {
 public:
  static constexpr std::uint64_t bar_bytes = 0x4000;
  static constexpr std::uint64_t config_bytes = 0x1000;
  static constexpr std::uint64_t own_bytes = 0x100;    // of the region beyond the numbered ones
  static constexpr std::uint64_t msix_table = 0x2000;  // in BAR0; its page
  static constexpr std::uint64_t command_at = 4;
  static constexpr std::uint16_t command_after_open = 0x0103;  // bus master off
  static constexpr std::uint16_t memory_enabled = 1U << 1;
  static constexpr std::uint16_t bus_master = 1U << 2;

  static constexpr std::uint32_t own_region = 9;  // its number

  explicit pci_function(function_options made_as)
      : options{std::move(made_as)},
        irqs{options.irqs},
        file_{::memfd_create("bar0", MFD_CLOEXEC)} {
    CHECK(::ftruncate(file_.get(), bar_bytes) == 0);
    void* const at = ::mmap(nullptr, bar_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file_.get(), 0);
    CHECK(at != MAP_FAILED);
    bar_ = {static_cast<std::byte*>(at), bar_bytes};
    power_on();
    resets_done = 0;
  }
  pci_function(const pci_function&) = delete;
  pci_function& operator=(const pci_function&) = delete;
  ~pci_function() { ::munmap(bar_.data(), bar_.size()); }

  function_options options;
  interrupts irqs;
  int opened = 0;                        // descriptors' worth of users
  const address_space* space = nullptr;  // what translates for it
  std::uint32_t devid = 0;               // in the iommufd it is bound to; 0: in none
  const void* owner = nullptr;           // that iommufd, or the group's container
  bool by_cdev = false;
  int resets_done = 0;
  bool asleep = false;
  unique_fd told_when_woken;  // the eventfd that its user gave for that, if any
  bool absent = false;
  std::array<std::byte, 16> vf_token{};
  std::map<std::uint32_t, std::uint32_t> pasids;  // and what each is attached to

  [[nodiscard]] std::span<std::byte> bar() { return bar_; }
  [[nodiscard]] int bar_fd() const { return file_.get(); }
  [[nodiscard]] std::uint16_t command() const {
    std::uint16_t value = 0;
    std::memcpy(&value, config_.data() + command_at, sizeof(value));
    return value;
  }

  /// It is there no more: reads give ones, writes go nowhere.
  void vanish() {
    absent = true;
    config_.fill(std::byte{0xff});
  }
  /// Somebody other than its user has the kernel wake it.
  void wake() {
    const bool told = std::exchange(asleep, false) && told_when_woken;
    CHECK(!told || ::eventfd_write(told_when_woken.get(), 1) == 0);
    told_when_woken.reset();
  }
  /// Its memory is off, as when it sleeps: who touches what is mapped of it gets SIGBUS. Until it
  /// is reset.
  void cut_off_bar() const { CHECK(::ftruncate(file_.get(), 0) == 0); }

  /// Its registers are as after power on. The kernel restores configuration space.
  void reset() {
    ++resets_done;
    if (absent) {
      return;
    }
    constexpr std::array<std::uint64_t, 2> capabilities_and_version{0x0040'1820'0f01'07ff,
                                                                    0x0001'0400};
    CHECK(::ftruncate(file_.get(), bar_bytes) == 0);
    std::ranges::fill(bar_, std::byte{0});
    std::ranges::copy(std::as_bytes(std::span{capabilities_and_version}), bar_.begin());
  }
  /// The same, with the bus master off.
  void power_on() {
    reset();
    config_.fill(std::byte{0});
    put(0, std::uint32_t{0x0010'1b36});  // vendor, device
    put(command_at, std::uint32_t{0x0010'0000} | command_after_open);
    put(8, std::uint32_t{0x0108'0202});  // NVMe controller
    put(0x34, std::uint32_t{0x40});      // first capability
    put(0x40, std::uint16_t{0x8011});    // MSI-X, then PCI Express at 0x80
    put(0x42, static_cast<std::uint16_t>(options.irqs.counts[2] - 1));
    put(0x44, static_cast<std::uint32_t>(msix_table));
    put(0x48, std::uint32_t{0x3000});
    put(0x80, std::uint16_t{0x0010});
  }

  [[nodiscard]] std::int64_t read(std::uint32_t region, std::uint64_t offset,
                                  std::span<std::byte> into) {
    const auto from = reachable(region, offset, into.size());
    for (std::size_t i = 0; i < from.first.size(); ++i) {
      const bool is_hidden = absent || in_table(region, offset + i);
      into[i] = is_hidden ? std::byte{0xff} : from.first[i];
    }
    return from.second;
  }
  [[nodiscard]] std::int64_t write(std::uint32_t region, std::uint64_t offset,
                                   std::span<const std::byte> from) {
    const auto into = reachable(region, offset, from.size());
    const bool is_command = region == 7 && offset == command_at && from.size() == 2;
    for (std::size_t i = 0; i < into.first.size() && !absent; ++i) {
      if (is_command || region == own_region || (region == 0 && !in_table(region, offset + i))) {
        into.first[i] = from[i];
      }
    }
    return into.second;  // other writes to configuration space change nothing
  }

 private:
  /// The kernel shows the MSI-X table to nobody who calls it.
  [[nodiscard]] bool in_table(std::uint32_t region, std::uint64_t offset) const {
    constexpr std::uint64_t entry_bytes = 16;
    return region == 0 &&
           range_within(offset - msix_table, 1, entry_bytes * options.irqs.counts[2]);
  }
  template <class T>
  void put(std::size_t at, T value) {
    std::memcpy(config_.data() + at, &value, sizeof(value));
  }
  /// What an access means, and what its system call returns.
  [[nodiscard]] std::pair<std::span<std::byte>, std::int64_t> reachable(std::uint32_t region,
                                                                        std::uint64_t offset,
                                                                        std::size_t bytes) {
    const auto within = [&](std::span<std::byte> all) {
      const auto part = all.subspan(offset, std::min<std::uint64_t>(bytes, all.size() - offset));
      return std::pair{part, static_cast<std::int64_t>(part.size())};
    };
    if (region == 7) {
      return range_within(offset, bytes, config_.size())
                 ? within(config_)
                 : std::pair{std::span<std::byte>{}, std::int64_t{-EFAULT}};
    }
    if (region == own_region && options.own_region) {
      return range_within(offset, bytes, own_.size())
                 ? within(own_)
                 : std::pair{std::span<std::byte>{}, std::int64_t{-EINVAL}};
    }
    if (region != 0 || offset >= bar_.size()) {
      return {{}, -EINVAL};
    }
    if ((command() & memory_enabled) == 0) {
      return {{}, -EIO};
    }
    return within(bar_);
  }

  unique_fd file_;
  std::span<std::byte> bar_;
  std::array<std::byte, config_bytes> config_{};
  std::array<std::byte, own_bytes> own_{};
};

}  // namespace runnel::sim
