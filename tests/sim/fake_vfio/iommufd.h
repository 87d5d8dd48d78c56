#pragma once

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "drivers/vfio/uapi/iommufd.h"
#include "drivers/vfio/uapi/type1.h"
#include "tests/sim/fake_vfio/container.h"

namespace runnel::sim {

/// A descriptor of /dev/iommu: address spaces, page tables and bound devices, each with a number;
/// and a container for groups, whose ioctls work on an address space of its own.
/// @spec Linux drivers/iommu/iommufd
class iommufd_file final : public group_home {
 public:
  explicit iommufd_file(machine& on) : machine_{&on} {}

  [[nodiscard]] iommufd_file* as_iommufd() override { return this; }

  [[nodiscard]] int ioctl(unsigned long request, std::uintptr_t argument) override {
    namespace ask = vfio::uapi::iommufd::ioctls;
    namespace of = vfio::uapi::iommufd;
    switch (request) {
      case ask::destroy:
        return with<of::destroy>(argument, &iommufd_file::destroy);
      case ask::ioas_alloc:
        return with<of::ioas_alloc>(argument, &iommufd_file::alloc);
      case ask::ioas_iova_ranges:
        return with<of::ioas_iova_ranges>(argument, &iommufd_file::tell_ranges);
      case ask::ioas_map:
        return with<of::ioas_map>(argument, &iommufd_file::map);
      case ask::ioas_map_file:
        return machine_->options.version < 613
                   ? -ENOTTY
                   : with<of::ioas_map_file>(argument, &iommufd_file::map_file);
      case ask::ioas_unmap:
        return with<of::ioas_unmap>(argument, &iommufd_file::unmap);
      case ask::hwpt_alloc:
        return with<of::hwpt_alloc>(argument, &iommufd_file::alloc_hwpt);
      default:
        return container_ioctl(request, argument);
    }
  }

  // What cdev asks for.

  [[nodiscard]] std::uint32_t bind(pci_function& function) {
    devices_.emplace(next_id_, &function);
    return next_id_++;
  }
  void unbind(std::uint32_t devid) { devices_.erase(devid); }
  [[nodiscard]] bool has_group(int group) const {
    return std::ranges::any_of(
        devices_, [&](const auto& each) { return each.second->options.group == group; });
  }

  [[nodiscard]] bool has_table(std::uint32_t id) const {
    return hwpts_.contains(id) || space_of(id) != nullptr;
  }
  /// Has it translated by this object from now on. @return 0 or an errno
  [[nodiscard]] int attach(pci_function& function, std::uint32_t id) {
    const auto hwpt = hwpts_.find(id);
    space_object* const to = space_of(hwpt == hwpts_.end() ? id : hwpt->second);
    if (to == nullptr) {
      return -ENOENT;
    }
    if (!to->space.fits(machine::ranges_of(function))) {
      return -EADDRINUSE;
    }
    detach(function);
    to->users.push_back(&function);
    function.space = &to->space;
    renew_ranges(*to);
    return 0;
  }
  void detach(pci_function& function) {
    for (auto& [id, object] : spaces_) {
      if (std::erase(object->users, &function) != 0) {
        renew_ranges(*object);
      }
    }
    function.space = nullptr;
  }

  // What groups ask for.

  [[nodiscard]] int add_group(int) override {
    if (compat_ == 0) {
      compat_ = add_space();
    }
    return 0;
  }
  void remove_group(int) override {}  // its devices stay
  [[nodiscard]] bool lets_go_in_use() const override { return true; }
  [[nodiscard]] int admit_device(pci_function& function) override {
    return attach(function, compat_);
  }
  void dismiss_device(pci_function& function) override { detach(function); }

 private:
  struct space_object {
    explicit space_object(memlock_account& account) : space{account} {}
    address_space space;
    std::vector<pci_function*> users;
  };

  /// Rules for every structure: at least as long as the first kernel had it, zero where this one
  /// knows no field.
  template <class T>
  [[nodiscard]] int with(std::uintptr_t argument, int (iommufd_file::*act)(T&)) {
    const std::uint32_t size = user<std::uint32_t>(argument);
    if (size < size_min<T>()) {
      return -EINVAL;
    }
    const auto* const bytes = reinterpret_cast<const std::byte*>(argument);
    if (size > sizeof(T) && std::any_of(bytes + sizeof(T), bytes + size,
                                        [](std::byte each) { return each != std::byte{0}; })) {
      return -E2BIG;
    }
    T copied{};
    std::memcpy(&copied, bytes, std::min<std::size_t>(size, sizeof(T)));
    const int answer = (this->*act)(copied);
    std::memcpy(reinterpret_cast<void*>(argument), &copied, std::min<std::size_t>(size, sizeof(T)));
    return answer;
  }
  template <class T>
  [[nodiscard]] static constexpr std::size_t size_min() {
    if constexpr (std::is_same_v<T, vfio::uapi::iommufd::hwpt_alloc>) {
      return offsetof(vfio::uapi::iommufd::hwpt_alloc, reserved) + sizeof(std::uint32_t);
    } else {
      return sizeof(T);
    }
  }

  [[nodiscard]] space_object* space_of(std::uint32_t id) const {
    const auto found = spaces_.find(id);
    return found == spaces_.end() ? nullptr : found->second.get();
  }
  std::uint32_t add_space() {
    spaces_.emplace(next_id_, std::make_unique<space_object>(machine_->account));
    return next_id_++;
  }
  /// What all its users reach; everything when there are none.
  static void renew_ranges(space_object& object) {
    std::vector<vfio::iova_range> ranges{vfio::iova_range{}};
    for (const pci_function* each : object.users) {
      ranges = machine::narrowed(ranges, *each);
    }
    object.space.set_ranges(std::move(ranges));
  }

  [[nodiscard]] int destroy(vfio::uapi::iommufd::destroy& asked) {
    if (hwpts_.erase(asked.id) != 0) {
      return 0;
    }
    const space_object* const object = space_of(asked.id);
    if (object == nullptr) {
      return devices_.contains(asked.id) ? -EBUSY : -ENOENT;
    }
    const bool used = !object->users.empty() || std::ranges::any_of(hwpts_, [&](const auto& each) {
      return each.second == asked.id;
    });
    return used ? -EBUSY : (spaces_.erase(asked.id), 0);
  }
  [[nodiscard]] int alloc(vfio::uapi::iommufd::ioas_alloc& asked) {
    if (asked.flags != 0) {
      return -EOPNOTSUPP;
    }
    asked.out_ioas_id = add_space();
    return 0;
  }
  [[nodiscard]] int tell_ranges(vfio::uapi::iommufd::ioas_iova_ranges& asked) {
    const space_object* const object = space_of(asked.ioas_id);
    if (asked.reserved != 0) {
      return -EOPNOTSUPP;
    }
    if (object == nullptr) {
      return -ENOENT;
    }
    const auto& ranges = object->space.ranges();
    const auto room = std::exchange(asked.num_iovas, static_cast<std::uint32_t>(ranges.size()));
    auto* const out = reinterpret_cast<vfio::uapi::iommufd::iova_range*>(asked.allowed_iovas);
    for (std::size_t i = 0; i < std::min<std::size_t>(room, ranges.size()); ++i) {
      out[i] = {.start = ranges[i].first, .last = ranges[i].last};
    }
    asked.out_iova_alignment = object->users.empty() ? 1 : page;
    return room < ranges.size() ? -EMSGSIZE : 0;
  }

  /// What maps of memory and of files share.
  template <class Map>
  [[nodiscard]] int map_memory(const Map& asked, std::byte* memory) {
    namespace flag = vfio::uapi::iommufd::map_flags;
    space_object* const object = space_of(asked.ioas_id);
    if ((asked.flags & ~(flag::fixed_iova | flag::writeable | flag::readable)) != 0 ||
        (asked.flags & flag::fixed_iova) == 0) {
      return -EOPNOTSUPP;  // the fake chooses no addresses
    }
    if (object == nullptr) {
      return -ENOENT;
    }
    if ((asked.flags & (flag::writeable | flag::readable)) == 0) {
      return -EINVAL;
    }
    const unsigned readable = (asked.flags & flag::readable) != 0 ? 1 : 0;
    const unsigned writeable = (asked.flags & flag::writeable) != 0 ? 2 : 0;
    return add(*object, {.first = asked.iova,
                         .length = asked.length,
                         .memory = memory,
                         .allowed = static_cast<access>(readable | writeable)});
  }
  /// The same for whoever asks. @return 0 or an errno
  [[nodiscard]] int add(space_object& to, const address_space::mapping& wanted) const {
    const std::uint64_t unaligned = (wanted.first | wanted.length) & (page - 1);
    if (wanted.length == 0 || (unaligned != 0 && !to.users.empty())) {
      return -EINVAL;
    }
    if (wanted.last() < wanted.first) {
      return -EOVERFLOW;
    }
    if (!to.space.permits(wanted.first, wanted.last())) {
      return -EINVAL;
    }
    if (to.space.overlaps(wanted.first, wanted.last())) {
      return -EEXIST;
    }
    if (machine_->is_bar(wanted.memory) || !machine::is_there(wanted.memory, wanted.length)) {
      return -EFAULT;
    }
    return to.space.map(wanted) ? 0 : -ENOMEM;
  }
  /// @param bytes  in: how much; out: how much was there. @return 0 or an errno
  [[nodiscard]] static int take_out(space_object& from, std::uint64_t first, std::uint64_t& bytes) {
    if (bytes == 0) {
      return -EINVAL;
    }
    if (first + (bytes - 1) < first) {
      return -EOVERFLOW;
    }
    const auto taken = from.space.unmap(first, first + (bytes - 1));
    bytes = taken.value_or(0);
    return taken ? 0 : -ENOENT;
  }
  [[nodiscard]] int map(vfio::uapi::iommufd::ioas_map& asked) {
    return asked.reserved != 0 ? -EOPNOTSUPP
                               : map_memory(asked, reinterpret_cast<std::byte*>(asked.user_va));
  }
  /// The fake cannot look into files: it finds the bytes where the process has them.
  [[nodiscard]] int map_file(vfio::uapi::iommufd::ioas_map_file& asked) {
    const auto found = machine_->memory_of_file.find(asked.fd);
    return found == machine_->memory_of_file.end() ? -EBADF
                                                   : map_memory(asked, found->second + asked.start);
  }
  [[nodiscard]] int unmap(vfio::uapi::iommufd::ioas_unmap& asked) {
    space_object* const object = space_of(asked.ioas_id);
    if (object == nullptr) {
      return -ENOENT;
    }
    const bool all = asked.iova == 0 && asked.length == ~std::uint64_t{0};
    std::uint64_t bytes = asked.length;
    if (const int refused = take_out(*object, asked.iova, bytes); refused != 0) {
      return refused;
    }
    asked.length = bytes;
    return bytes == 0 && !all ? -ENOENT : 0;
  }
  [[nodiscard]] int alloc_hwpt(vfio::uapi::iommufd::hwpt_alloc& asked) {
    if (asked.flags != 0 || asked.reserved != 0) {
      return -EOPNOTSUPP;  // this IOMMU tracks nothing, nests nothing and knows no PASID
    }
    if (!devices_.contains(asked.dev_id) || space_of(asked.pt_id) == nullptr) {
      return -ENOENT;
    }
    asked.out_hwpt_id = next_id_;
    hwpts_.emplace(next_id_++, asked.pt_id);
    return 0;
  }

  [[nodiscard]] int container_ioctl(unsigned long request, std::uintptr_t argument) {
    namespace ask = vfio::uapi::ioctls;
    namespace what = vfio::uapi::extensions;
    space_object* const object = space_of(compat_);
    const bool is_type1 = argument == what::type1_iommu || argument == what::type1v2_iommu;
    switch (request) {
      case ask::get_api_version:
        return vfio::uapi::api_version;
      case ask::check_extension:
        return is_type1 || argument == what::unmap_all ? 1 : 0;
      case ask::set_iommu:
        return object == nullptr ? -ENODEV : is_type1 ? 0 : -EINVAL;
      case ask::iommu_get_info:
        return object == nullptr ? -ENODEV
                                 : type1_operations{*machine_, object->space, {}}.tell(argument);
      case ask::iommu_map_dma:
        return object == nullptr ? -ENODEV : compat_map(*object, argument);
      case ask::iommu_unmap_dma:
        return object == nullptr ? -ENODEV : compat_unmap(*object, argument);
      default:
        return -ENOTTY;
    }
  }
  /// Type1's structures with iommufd's rules. @spec Linux drivers/iommu/iommufd/vfio_compat.c
  [[nodiscard]] int compat_map(space_object& to, std::uintptr_t argument) const {
    namespace flag = vfio::uapi::dma_map_flags;
    const auto& asked = user<vfio::uapi::iommu_type1_dma_map>(argument);
    if (asked.argsz < sizeof(asked) || (asked.flags & ~(flag::read | flag::write)) != 0) {
      return -EINVAL;
    }
    return add(to, {.first = asked.iova,
                    .length = asked.size,
                    .memory = reinterpret_cast<std::byte*>(asked.vaddr),
                    .allowed = static_cast<access>(asked.flags)});
  }
  [[nodiscard]] static int compat_unmap(space_object& from, std::uintptr_t argument) {
    namespace flag = vfio::uapi::dma_unmap_flags;
    auto& asked = user<vfio::uapi::iommu_type1_dma_unmap>(argument);
    const bool all = (asked.flags & flag::all) != 0;
    if (asked.argsz < sizeof(asked) || (asked.flags & ~flag::all) != 0 ||
        (all && (asked.iova | asked.size) != 0)) {
      return -EINVAL;
    }
    asked.size = all ? ~std::uint64_t{0} : asked.size;
    return take_out(from, asked.iova, asked.size);
  }

  machine* machine_;
  std::map<std::uint32_t, std::unique_ptr<space_object>> spaces_;
  std::map<std::uint32_t, std::uint32_t> hwpts_;  // and the space that each shows
  std::map<std::uint32_t, pci_function*> devices_;
  std::uint32_t next_id_ = 1;
  std::uint32_t compat_ = 0;
};

}  // namespace runnel::sim
