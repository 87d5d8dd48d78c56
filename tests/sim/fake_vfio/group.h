#pragma once

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "drivers/vfio/uapi/type1.h"
#include "tests/sim/fake_vfio/container.h"
#include "tests/sim/fake_vfio/device_operations.h"

namespace runnel::sim {

/// A descriptor of /dev/vfio/N: the functions that no IOMMU keeps apart. One at a time is open.
/// @spec Linux vfio group.c
class group_file final : public kernel_file, public std::enable_shared_from_this<group_file> {
 public:
  group_file(machine& on, int number) : machine_{&on}, number_{number} {}
  ~group_file() override { leave(); }

  [[nodiscard]] int number() const { return number_; }
  [[nodiscard]] const std::shared_ptr<group_home>& home() const { return home_; }
  [[nodiscard]] group_file* as_group() override { return this; }
  [[nodiscard]] bool is_for_kvm() const override { return true; }
  int devices_open = 0;

  [[nodiscard]] int ioctl(unsigned long request, std::uintptr_t argument) override {
    namespace ask = vfio::uapi::ioctls;
    switch (request) {
      case ask::group_get_status:
        return tell(argument);
      case ask::group_set_container:
        return set_container(argument);
      case ask::group_unset_container:
        if (home_ == nullptr) {
          return -EINVAL;
        }
        if (devices_open != 0 && !home_->lets_go_in_use()) {
          return -EBUSY;
        }
        leave();
        return 0;
      case ask::group_get_device_fd:
        return open_device(argument);
      default:
        return -ENOTTY;
    }
  }

 private:
  [[nodiscard]] bool viable() const {
    bool all = true;
    machine_->each_of_group(number_, [&](const pci_function& each) {
      all = all && (each.options.driver == "vfio-pci" || each.options.driver.empty());
    });
    return all;
  }
  [[nodiscard]] int tell(std::uintptr_t argument) const {
    auto& told = user<vfio::uapi::group_status>(argument);
    if (told.argsz < sizeof(told)) {
      return -EINVAL;
    }
    told.flags = (viable() ? vfio::uapi::group_flags::viable : 0) |
                 (home_ != nullptr ? vfio::uapi::group_flags::container_set : 0);
    return 0;
  }
  [[nodiscard]] int set_container(std::uintptr_t argument) {
    const auto file = machine_->file_of(user<std::int32_t>(argument));
    if (home_ != nullptr) {
      return -EINVAL;
    }
    if (file == nullptr) {
      return machine_->options.version < 601 ? -EINVAL : -EBADF;
    }
    group_home* const home = file->as_group_home();
    if (home == nullptr) {
      return machine_->options.version < 602 ? -EINVAL : -EBADFD;
    }
    if (!viable()) {
      return -EPERM;
    }
    if (const int refused = home->add_group(number_); refused != 0) {
      return refused;
    }
    home_ = std::shared_ptr<group_home>{file, home};
    return 0;
  }
  void leave() {
    if (home_ != nullptr) {
      home_->remove_group(number_);
      home_.reset();
    }
  }

  [[nodiscard]] int open_device(std::uintptr_t argument);

  machine* machine_;
  int number_;
  std::shared_ptr<group_home> home_;
};

/// A device that its group has opened; keeps the group.
class group_device_file final : public device_operations {
 public:
  group_device_file(machine& on, pci_function& function, std::shared_ptr<group_file> group)
      : device_operations{on, function}, group_{std::move(group)}, home_{group_->home()} {
    open_function();
    ++group_->devices_open;
    this->function().owner = home_.get();
  }
  ~group_device_file() override {
    function().owner = nullptr;
    home_->dismiss_device(function());
    close_function();
    --group_->devices_open;
  }

  [[nodiscard]] int ioctl(unsigned long request, std::uintptr_t argument) override {
    return device_ioctl(request, argument);
  }

 private:
  /// A hot reset takes the descriptors of all groups that it touches.
  [[nodiscard]] bool owns(const pci_function& other, std::uintptr_t reset) const override {
    const auto count = user<vfio::uapi::pci_hot_reset>(reset).count;
    const auto* const fds =
        reinterpret_cast<const std::int32_t*>(reset + sizeof(vfio::uapi::pci_hot_reset));
    return std::any_of(fds, fds + count, [&](std::int32_t fd) {
      const auto file = host().file_of(fd);
      const group_file* const group = file == nullptr ? nullptr : file->as_group();
      return group != nullptr && group->number() == other.options.group;
    });
  }
  [[nodiscard]] std::uint32_t name_of(const pci_function& other) const override {
    return static_cast<std::uint32_t>(other.options.group);
  }
  [[nodiscard]] std::uint32_t hot_reset_info_flags() const override { return 0; }

  std::shared_ptr<group_file> group_;
  std::shared_ptr<group_home> home_;
};

inline int group_file::open_device(std::uintptr_t argument) {
  const std::string asked{reinterpret_cast<const char*>(argument)};
  const std::string address = asked.substr(0, asked.find(' '));
  pci_function* const function = machine_->find(&function_options::address, address);
  if (home_ == nullptr) {
    return -EINVAL;
  }
  if (function == nullptr || function->options.group != number_ ||
      function->options.driver != "vfio-pci") {
    return -ENODEV;
  }
  if (const std::string& token = function->options.token;
      !token.empty() && asked != address + " vf_token=" + token) {
    return -EACCES;
  }
  if (function->by_cdev) {
    return -EBUSY;
  }
  if (const int refused = home_->admit_device(*function); refused != 0) {
    return refused;
  }
  return machine_->give_fd(
      std::make_shared<group_device_file>(*machine_, *function, shared_from_this()));
}

}  // namespace runnel::sim
