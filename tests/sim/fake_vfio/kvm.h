#pragma once

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <memory>
#include <vector>

#include "drivers/vfio/uapi/kvm.h"
#include "tests/sim/fake_vfio/machine.h"

namespace runnel::sim {

/// KVM's device for VFIO: holds the files it was told of until it is told to forget them.
/// @spec Linux virt/kvm/vfio.c
class kvm_vfio_file final : public kernel_file {
 public:
  explicit kvm_vfio_file(machine& on) : machine_{&on} {}
  ~kvm_vfio_file() override { machine_->known_to_kvm -= static_cast<int>(files_.size()); }

  [[nodiscard]] int ioctl(unsigned long request, std::uintptr_t argument) override {
    const auto& asked = user<vfio::uapi::kvm::device_attr>(argument);
    const bool known = asked.group == vfio::uapi::kvm::vfio_file &&
                       (asked.attr == vfio::uapi::kvm::vfio_file_add ||
                        asked.attr == vfio::uapi::kvm::vfio_file_del);
    switch (request) {
      case vfio::uapi::kvm::ioctls::has_device_attr:
        return known ? 0 : -ENXIO;
      case vfio::uapi::kvm::ioctls::set_device_attr:
        break;
      default:
        return -ENOTTY;
    }
    if (!known) {
      return -ENXIO;
    }
    const auto file = machine_->file_of(user<std::int32_t>(asked.addr));
    if (file == nullptr) {
      return -EBADF;
    }
    const auto same = std::ranges::find(files_, file);
    if (asked.attr == vfio::uapi::kvm::vfio_file_del) {
      if (same == files_.end()) {
        return -ENOENT;
      }
      files_.erase(same);
      --machine_->known_to_kvm;
      return 0;
    }
    if (!file->is_for_kvm()) {
      return -EINVAL;
    }
    if (same != files_.end()) {
      return -EEXIST;
    }
    files_.push_back(file);
    ++machine_->known_to_kvm;
    return 0;
  }

 private:
  machine* machine_;
  std::vector<std::shared_ptr<kernel_file>> files_;
};

/// A virtual machine.
class kvm_machine_file final : public kernel_file {
 public:
  explicit kvm_machine_file(machine& on) : machine_{&on} {}

  [[nodiscard]] int ioctl(unsigned long request, std::uintptr_t argument) override {
    auto& asked = user<vfio::uapi::kvm::create_device>(argument);
    if (request != vfio::uapi::kvm::ioctls::create_device) {
      return -ENOTTY;
    }
    if (asked.type != vfio::uapi::kvm::dev_type_vfio) {
      return -ENODEV;
    }
    if ((asked.flags & vfio::uapi::kvm::create_device_test) != 0) {
      return 0;
    }
    if (!vfio_.expired()) {
      return -EBUSY;  // there is one for a machine
    }
    const auto made = std::make_shared<kvm_vfio_file>(*machine_);
    vfio_ = made;
    asked.fd = static_cast<std::uint32_t>(machine_->give_fd(made));
    return 0;
  }

 private:
  machine* machine_;
  std::weak_ptr<kvm_vfio_file> vfio_;
};

/// A descriptor of /dev/kvm.
class kvm_file final : public kernel_file {
 public:
  explicit kvm_file(machine& on) : machine_{&on} {}

  [[nodiscard]] int ioctl(unsigned long request, std::uintptr_t) override {
    return request == vfio::uapi::kvm::ioctls::create_vm
               ? machine_->give_fd(std::make_shared<kvm_machine_file>(*machine_))
               : -ENOTTY;
  }

 private:
  machine* machine_;
};

}  // namespace runnel::sim
