#pragma once

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <optional>
#include <vector>

#include "drivers/vfio/uapi/type1.h"
#include "tests/sim/fake_vfio/machine.h"

namespace runnel::sim {

/// What a group can be put into, so that its devices have something that translates.
class group_home : public kernel_file {
 public:
  /// @return 0, or why the group cannot come in
  [[nodiscard]] virtual int add_group(int group) = 0;
  virtual void remove_group(int group) = 0;
  /// Whether a group may leave while devices of it are open.
  [[nodiscard]] virtual bool lets_go_in_use() const { return false; }
  /// Whether devices may be opened. @return 0 or an errno
  [[nodiscard]] virtual int admit_device(pci_function& function) = 0;
  virtual void dismiss_device(pci_function&) {}

  [[nodiscard]] group_home* as_group_home() final { return this; }
};

/// The ioctls of type1 on an address space, with the errnos of version 2.
/// @spec Linux vfio_iommu_type1.c
class type1_operations {
 public:
  /// @param maps_max  empty: any number
  type1_operations(machine& on, address_space& space, std::optional<std::uint32_t> maps_max)
      : machine_{&on}, space_{&space}, maps_max_{maps_max} {}

  [[nodiscard]] int map(std::uintptr_t argument) const {
    namespace flag = vfio::uapi::dma_map_flags;
    const auto& asked = user<vfio::uapi::iommu_type1_dma_map>(argument);
    const std::uint64_t last = asked.iova + (asked.size - 1);
    if (asked.argsz < sizeof(asked) || (asked.flags & ~(flag::read | flag::write)) != 0 ||
        asked.flags == 0 || asked.size == 0 ||
        ((asked.iova | asked.size | asked.vaddr) & (page - 1)) != 0) {
      return -EINVAL;
    }
    if (last < asked.iova) {
      return wrapped();
    }
    if (space_->overlaps(asked.iova, last)) {
      return -EEXIST;
    }
    if (maps_max_ && space_->size() >= *maps_max_) {
      return -ENOSPC;
    }
    if (!space_->permits(asked.iova, last)) {
      return -EINVAL;
    }
    if (!machine::is_there(reinterpret_cast<std::byte*>(asked.vaddr), asked.size)) {
      return -EFAULT;
    }
    const bool charged = space_->map({.first = asked.iova,
                                      .length = asked.size,
                                      .memory = reinterpret_cast<std::byte*>(asked.vaddr),
                                      .allowed = static_cast<access>(asked.flags)});
    return charged ? 0 : -ENOMEM;
  }

  [[nodiscard]] int unmap(std::uintptr_t argument) const {
    namespace flag = vfio::uapi::dma_unmap_flags;
    auto& asked = user<vfio::uapi::iommu_type1_dma_unmap>(argument);
    const bool all = (asked.flags & flag::all) != 0 && machine_->options.version >= 512;
    if (asked.argsz < sizeof(asked) || (asked.flags & ~(all ? flag::all : 0U)) != 0) {
      return -EINVAL;
    }
    if (all ? (asked.iova | asked.size) != 0
            : asked.size == 0 || ((asked.iova | asked.size) & (page - 1)) != 0) {
      return -EINVAL;
    }
    if (!all && asked.iova + (asked.size - 1) < asked.iova) {
      return wrapped();
    }
    const auto bytes =
        space_->unmap(asked.iova, all ? ~std::uint64_t{0} : asked.iova + (asked.size - 1));
    if (!bytes) {
      return -EINVAL;
    }
    asked.size = *bytes;
    return 0;
  }

  [[nodiscard]] int tell(std::uintptr_t argument) const {
    auto& told = user<vfio::uapi::iommu_type1_info>(argument);
    constexpr std::uint32_t bytes_min = offsetof(vfio::uapi::iommu_type1_info, cap_offset);
    if (told.argsz < bytes_min) {
      return -EINVAL;
    }
    told.flags = vfio::uapi::iommu_info_flags::pgsizes;
    told.iova_pgsizes = ~std::uint64_t{page - 1};
    const auto caps = capabilities();
    if (caps.empty()) {
      return 0;
    }
    told.flags |= vfio::uapi::iommu_info_flags::caps;
    const auto needed = static_cast<std::uint32_t>(sizeof(told) + caps.size());
    if (told.argsz < needed) {
      told.argsz = needed;
      return 0;
    }
    told.cap_offset = sizeof(told);
    std::memcpy(reinterpret_cast<std::byte*>(argument) + sizeof(told), caps.data(), caps.size());
    return 0;
  }

 private:
  [[nodiscard]] int wrapped() const {
    return machine_->options.version < 618 ? -EINVAL : -EOVERFLOW;
  }
  [[nodiscard]] std::vector<std::byte> capabilities() const {
    std::vector<std::byte> bytes;
    const auto append = [&bytes](const auto& part) {
      const auto raw = std::as_bytes(std::span{&part, 1});
      bytes.insert(bytes.end(), raw.begin(), raw.end());
    };
    if (machine_->options.version < 504) {
      return bytes;
    }
    const auto count = static_cast<std::uint32_t>(space_->ranges().size());
    const auto end = static_cast<std::uint32_t>(
        sizeof(vfio::uapi::iommu_type1_info) + sizeof(vfio::uapi::iommu_type1_info_cap_iova_range) +
        count * sizeof(vfio::uapi::type1_iova_range));
    const bool tells_rest = machine_->options.version >= 510;
    append(vfio::uapi::iommu_type1_info_cap_iova_range{
        .header = {.id = vfio::uapi::iommu_caps::iova_range,
                   .version = 1,
                   .next = tells_rest ? end : 0},
        .nr_iovas = count,
        .reserved = 0});
    for (const auto& each : space_->ranges()) {
      append(vfio::uapi::type1_iova_range{.start = each.first, .end = each.last});
    }
    if (tells_rest) {
      append(vfio::uapi::iommu_type1_info_dma_avail{
          .header = {.id = vfio::uapi::iommu_caps::dma_avail, .version = 1, .next = 0},
          .avail = maps_max_ ? static_cast<std::uint32_t>(*maps_max_ - space_->size()) : ~0U});
    }
    return bytes;
  }

  machine* machine_;
  address_space* space_;
  std::optional<std::uint32_t> maps_max_;
};

/// A descriptor of /dev/vfio/vfio.
/// @spec Linux vfio container.c
class container_file final : public group_home {
 public:
  explicit container_file(machine& on)
      : machine_{&on}, space_{on.account}, type1_{on, space_, on.options.maps_max} {}

  [[nodiscard]] int ioctl(unsigned long request, std::uintptr_t argument) override {
    namespace ask = vfio::uapi::ioctls;
    switch (request) {
      case ask::get_api_version:
        return vfio::uapi::api_version;
      case ask::check_extension:
        return knows(argument);
      case ask::set_iommu:
        return set_iommu(argument);
      default:
        break;
    }
    if (!running_) {
      return -EINVAL;
    }
    if (unguarded_) {
      return -ENOTTY;
    }
    switch (request) {
      case ask::iommu_get_info:
        return type1_.tell(argument);
      case ask::iommu_map_dma:
        return type1_.map(argument);
      case ask::iommu_unmap_dma:
        return type1_.unmap(argument);
      default:
        return -ENOTTY;
    }
  }

  [[nodiscard]] int add_group(int group) override {
    int answer = 0;
    machine_->each_of_group(group, [&](pci_function& each) {
      answer = running_ && !space_.fits(machine::ranges_of(each)) ? -EINVAL : answer;
    });
    if (answer == 0) {
      groups_.push_back(group);
      if (running_) {
        attach(group);
      }
    }
    return answer;
  }
  void remove_group(int group) override {
    std::erase(groups_, group);
    machine_->each_of_group(group, [](pci_function& each) { each.space = nullptr; });
    running_ = running_ && !groups_.empty();
    if (!running_) {
      static_cast<void>(space_.unmap(0, ~std::uint64_t{0}));  // goes with the last group
    }
  }
  [[nodiscard]] int admit_device(pci_function&) override { return running_ ? 0 : -EINVAL; }

 private:
  [[nodiscard]] int knows(std::uintptr_t extension) const {
    namespace what = vfio::uapi::extensions;
    const bool known = extension == what::type1_iommu || extension == what::type1v2_iommu ||
                       (extension == what::noiommu_iommu &&
                        machine_->find(&function_options::no_iommu, true) != nullptr) ||
                       (machine_->options.version >= 512 &&
                        (extension == what::unmap_all || extension == what::update_vaddr));
    return known ? 1 : 0;
  }
  [[nodiscard]] int set_iommu(std::uintptr_t type) {
    if (groups_.empty() || running_) {
      return -EINVAL;
    }
    const auto is_unguarded = [this](int group) {
      const pci_function* const any = machine_->find(&function_options::group, group);
      return any != nullptr && any->options.no_iommu;
    };
    unguarded_ = std::ranges::all_of(groups_, is_unguarded);
    if (type != (unguarded_ ? vfio::uapi::extensions::noiommu_iommu
                            : vfio::uapi::extensions::type1v2_iommu)) {
      return -ENODEV;
    }
    running_ = true;
    std::ranges::for_each(groups_, [this](int group) { attach(group); });
    return 0;
  }
  void attach(int group) {
    machine_->each_of_group(group, [this](pci_function& each) {
      space_.set_ranges(machine::narrowed(space_.ranges(), each));
      each.space = &space_;
    });
  }

  machine* machine_;
  address_space space_;
  type1_operations type1_;
  std::vector<int> groups_;
  bool running_ = false;
  bool unguarded_ = false;  // nothing translates for its groups
};

}  // namespace runnel::sim
