#pragma once

#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "tests/sim/fake_vfio/address_space.h"
#include "tests/sim/fake_vfio/file.h"
#include "tests/sim/fake_vfio/pci_function.h"

namespace runnel::sim {

struct machine_options {
  std::vector<function_options> functions{function_options{}};
  unsigned version = 612;  // of the kernel: 6.12
  std::uint64_t memlock = ~std::uint64_t{0};
  std::uint32_t maps_max = 65535;  // of a container
  bool iommufd = true;             // /dev/iommu exists, and nodes of devices
  bool hot_resets = true;          // the bridge can reset what is behind it
  bool hot_resets_succeed = true;  // it does not only seem so
  bool hides_frames = false;       // where memory is, from who is not root
  bool scatters = false;           // neighbouring pages are far apart
};

/// A BAR in the process; as in the kernel it holds the device's file.
struct bar_map {
  std::span<std::byte> at;
  std::shared_ptr<kernel_file> of;
};

/// What is under the kernel, and what its files share.
class machine {
 public:
  explicit machine(const machine_options& made_as) : options{made_as} {
    account.limit = options.memlock;
    for (const function_options& each : options.functions) {
      functions.push_back(std::make_unique<pci_function>(each));
    }
  }

  machine_options options;
  memlock_account account;
  std::vector<std::unique_ptr<pci_function>> functions;
  std::vector<bar_map> bar_maps;
  int known_to_kvm = 0;                                   // groups and devices
  std::map<int, std::weak_ptr<kernel_file>> open_groups;  // also by their devices
  std::map<int, std::byte*> memory_of_file;  // where the process has a file that it maps for DMA
  std::function<std::shared_ptr<kernel_file>(int fd)> file_of;
  std::function<int(std::shared_ptr<kernel_file>)> give_fd;

  // Physical memory is the process's own, somewhere else.
  static constexpr std::uint64_t physical_shift = 0x1000'0000;
  [[nodiscard]] static std::byte* memory_at(std::uint64_t physical) {
    return reinterpret_cast<std::byte*>(physical - physical_shift);
  }
  /// As /proc/self/pagemap tells it.
  [[nodiscard]] std::uint64_t pagemap_entry(const std::byte* of) const {
    const std::uint64_t frame = (reinterpret_cast<std::uintptr_t>(of) + physical_shift) / page;
    const bool moved = options.scatters && frame % 2 != 0;
    constexpr std::uint64_t present = std::uint64_t{1} << 63U;
    return present | (options.hides_frames ? 0 : frame + (moved ? 2 : 0));
  }

  /// The function with this value of an option; null when there is none.
  template <class Value>
  [[nodiscard]] pci_function* find(Value function_options::* option, const Value& value) const {
    const auto found = std::ranges::find_if(
        functions, [&](const auto& each) { return each->options.*option == value; });
    return found == functions.end() ? nullptr : found->get();
  }
  template <class Do>
  void each_of_group(int group, Do&& act) const {
    for (const auto& each : functions) {
      if (each->options.group == group) {
        act(*each);
      }
    }
  }

  /// What a device reaches through its IOMMU: all of its width but the window of MSI.
  [[nodiscard]] static std::vector<vfio::iova_range> ranges_of(const pci_function& function) {
    return {
        {.first = 0, .last = 0xfedf'ffff},
        {.first = 0xfef0'0000, .last = (std::uint64_t{1} << function.options.address_bits) - 1}};
  }
  /// What both lists allow. Each has the same hole, so only their ends differ.
  [[nodiscard]] static std::vector<vfio::iova_range> narrowed(
      const std::vector<vfio::iova_range>& before, const pci_function& function) {
    auto after = ranges_of(function);
    after.back().last = std::min(after.back().last, before.back().last);
    return after;
  }
  /// Whether the process has all of it.
  [[nodiscard]] static bool is_there(std::byte* memory, std::uint64_t bytes) {
    auto* const first = memory - reinterpret_cast<std::uintptr_t>(memory) % page;
    return ::msync(first, static_cast<std::size_t>(memory - first) + bytes, MS_ASYNC) == 0;
  }
  [[nodiscard]] bool is_bar(const std::byte* memory) const {
    return std::ranges::any_of(bar_maps, [memory](const auto& each) {
      return memory >= each.at.data() && memory < each.at.data() + each.at.size();
    });
  }
};

}  // namespace runnel::sim
