#pragma once

#include <cerrno>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "drivers/vfio/uapi/cdev.h"
#include "tests/sim/fake_vfio/device_operations.h"
#include "tests/sim/fake_vfio/iommufd.h"

namespace runnel::sim {

/// A descriptor of /dev/vfio/devices/vfioN. It does nothing before it is bound to an iommufd.
/// @spec Linux vfio device_cdev.c
class cdev_file final : public device_operations {
 public:
  cdev_file(machine& on, pci_function& function) : device_operations{on, function} {}
  ~cdev_file() override {
    if (bound_ != nullptr) {
      iommufd().detach(function());
      function().pasids.clear();
      iommufd().unbind(function().devid);
      function().devid = 0;
      function().by_cdev = false;
      function().owner = nullptr;
      close_function();
    }
  }

  [[nodiscard]] bool is_for_kvm() const override { return true; }
  [[nodiscard]] int ioctl(unsigned long request, std::uintptr_t argument) override {
    namespace ask = vfio::uapi::ioctls;
    if (request == ask::device_bind_iommufd) {
      return bind(argument);
    }
    if (bound_ == nullptr) {
      return -EINVAL;
    }
    switch (request) {
      case ask::device_attach_iommufd_pt:
        return attach(argument);
      case ask::device_detach_iommufd_pt:
        return detach(argument);
      default:
        return device_ioctl(request, argument);
    }
  }
  [[nodiscard]] std::int64_t pread(std::span<std::byte> into, std::uint64_t offset) override {
    return bound_ == nullptr ? -EINVAL : device_operations::pread(into, offset);
  }
  [[nodiscard]] std::int64_t pwrite(std::span<const std::byte> from,
                                    std::uint64_t offset) override {
    return bound_ == nullptr ? -EINVAL : device_operations::pwrite(from, offset);
  }
  [[nodiscard]] std::optional<backing> mmap(std::uint64_t offset, std::uint64_t bytes) override {
    return bound_ == nullptr ? std::nullopt : device_operations::mmap(offset, bytes);
  }

 private:
  [[nodiscard]] iommufd_file& iommufd() const { return *bound_->as_iommufd(); }
  [[nodiscard]] bool since(unsigned version) const { return host().options.version >= version; }

  [[nodiscard]] int bind(std::uintptr_t argument) {
    auto& asked = user<vfio::uapi::device_bind_iommufd>(argument);
    const std::uint32_t flags_known = since(617) ? vfio::uapi::bind_flag_token : 0;
    if (asked.argsz < vfio::uapi::bind_iommufd_bytes_min || (asked.flags & ~flags_known) != 0 ||
        asked.iommufd < 0) {
      return -EINVAL;
    }
    if (!host().open_groups[function().options.group].expired()) {
      return -EBUSY;
    }
    if (bound_ != nullptr) {
      return -EINVAL;
    }
    const auto file = host().file_of(asked.iommufd);
    if (file == nullptr || file->as_iommufd() == nullptr) {
      return file == nullptr ? -EBADF : -EBADFD;
    }
    if (function().opened != 0) {
      return -EINVAL;  // by another descriptor
    }
    if (!function().options.token.empty() && !token_matches(asked)) {
      return -EACCES;
    }
    open_function();
    function().by_cdev = true;
    bound_ = file;
    function().owner = file.get();
    function().devid = iommufd().bind(function());
    asked.out_devid = function().devid;
    return 0;
  }
  [[nodiscard]] bool token_matches(const vfio::uapi::device_bind_iommufd& asked) const {
    return (asked.flags & vfio::uapi::bind_flag_token) != 0 && asked.argsz >= sizeof(asked) &&
           std::equal(function().vf_token.begin(), function().vf_token.end(),
                      reinterpret_cast<const std::byte*>(asked.token_uuid_ptr));
  }

  [[nodiscard]] int attach(std::uintptr_t argument) {
    auto& asked = user<vfio::uapi::device_attach_iommufd_pt>(argument);
    const std::uint32_t flags_known = since(615) ? vfio::uapi::attach_pasid : 0;
    if (asked.argsz < vfio::uapi::attach_iommufd_pt_bytes_min ||
        (asked.flags & ~flags_known) != 0) {
      return -EINVAL;
    }
    if ((asked.flags & vfio::uapi::attach_pasid) != 0) {
      return asked.argsz < sizeof(asked) ? -EINVAL : attach_pasid(asked);
    }
    return iommufd().attach(function(), asked.pt_id);
  }
  [[nodiscard]] int detach(std::uintptr_t argument) const {
    const auto& asked = user<vfio::uapi::device_detach_iommufd_pt>(argument);
    const std::uint32_t flags_known = since(615) ? vfio::uapi::detach_pasid : 0;
    if (asked.argsz < vfio::uapi::detach_iommufd_pt_bytes_min ||
        (asked.flags & ~flags_known) != 0) {
      return -EINVAL;
    }
    if ((asked.flags & vfio::uapi::detach_pasid) == 0) {
      iommufd().detach(function());
      return 0;
    }
    if (asked.argsz < sizeof(asked)) {
      return -EINVAL;
    }
    function().pasids.erase(asked.pasid);  // one that is not attached is none
    return 0;
  }
  /// Once more: another table takes the place of the first.
  [[nodiscard]] int attach_pasid(const vfio::uapi::device_attach_iommufd_pt& asked) const {
    if (!function().options.pasids) {
      return -EOPNOTSUPP;
    }
    if (!iommufd().has_table(asked.pt_id)) {
      return -ENOENT;
    }
    function().pasids.insert_or_assign(asked.pasid, asked.pt_id);
    return 0;
  }

  /// Here no descriptors prove it: all must be bound to our iommufd, or be of a group of which one
  /// is, and unused.
  [[nodiscard]] bool owns(const pci_function& other, std::uintptr_t reset) const override {
    return user<vfio::uapi::pci_hot_reset>(reset).count == 0 &&
           name_of(other) != vfio::uapi::pci_devid_not_owned;
  }
  [[nodiscard]] std::uint32_t name_of(const pci_function& other) const override {
    if (other.owner == bound_.get()) {
      return other.devid;
    }
    const bool idle_here = other.opened == 0 && iommufd().has_group(other.options.group) &&
                           other.options.driver == "vfio-pci";
    return idle_here ? vfio::uapi::pci_devid_owned : vfio::uapi::pci_devid_not_owned;
  }
  [[nodiscard]] std::uint32_t hot_reset_info_flags() const override {
    return vfio::uapi::hot_reset_flags::dev_id | vfio::uapi::hot_reset_flags::dev_id_owned;
  }

  std::shared_ptr<kernel_file> bound_;  // the iommufd
};

}  // namespace runnel::sim
