#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>

#include "drivers/vfio/kvm.h"
#include "drivers/vfio/syscalls.h"
#include "mempool/base/error.h"

// The states of a device on its way to a driver. Each is made of the one before, which is spent
// then, and offers what the kernel allows in it: a wrong order does not compile.
//
//   by its node:   unbound_device -> bound_device -> attached_device
//   by its group:  unbound_group  -> joined_group -> shared_group -> attached_device
//
// What is learnt of an attached device makes it a running one, which `kernel_device` drives.
namespace runnel::vfio {

/// What a virtual function's user must know: a UUID, in its own order of bytes.
using vf_token = std::array<std::byte, 16>;

/// It reaches what is mapped where it is attached, once its driver has turned bus mastering on.
/// Closed when it goes.
class attached_device {
 public:
  attached_device() noexcept = default;
  attached_device(syscalls& system, kernel_fd device, std::optional<kvm_file> told = {}) noexcept
      : system_{&system}, told_{std::move(told)}, device_{std::move(device)} {}

  [[nodiscard]] int fd() const noexcept { return device_.get(); }  // borrowed
  [[nodiscard]] explicit operator bool() const noexcept { return static_cast<bool>(device_); }

  // What follows is for devices that were opened by their nodes; of others: os, ENOTTY.

  /// Has it reach what is mapped somewhere else, in one step. When that fails nothing has changed.
  /// @param table  an IOAS or HWPT
  /// @spec VFIO_DEVICE_ATTACH_IOMMUFD_PT
  [[nodiscard]] result<> replace(std::uint32_t table) noexcept;
  /// It reaches nothing any more. @spec VFIO_DEVICE_DETACH_IOMMUFD_PT
  [[nodiscard]] result<> detach() noexcept;
  // What it does in the name of this process address space. Kernels since 6.15, where the device
  // and the IOMMU know PASIDs; others answer EINVAL or EOPNOTSUPP.
  [[nodiscard]] result<> attach_pasid(std::uint32_t pasid, std::uint32_t table) noexcept;
  [[nodiscard]] result<> detach_pasid(std::uint32_t pasid) noexcept;

 private:
  syscalls* system_ = nullptr;
  std::optional<kvm_file> told_;  // goes last
  kernel_fd device_;
};

/// Known to an iommufd, and reset; it reaches no memory.
class bound_device {
 public:
  bound_device(syscalls& system, kernel_fd device, std::uint32_t id,
               std::optional<kvm_file> told) noexcept
      : system_{&system}, told_{std::move(told)}, device_{std::move(device)}, id_{id} {}

  /// Its number in the iommufd.
  [[nodiscard]] std::uint32_t id() const noexcept { return id_; }
  /// @param table  an IOAS or HWPT
  /// @spec VFIO_DEVICE_ATTACH_IOMMUFD_PT
  [[nodiscard]] result<attached_device> attach(std::uint32_t table) && noexcept;

 private:
  syscalls* system_;
  std::optional<kvm_file> told_;
  kernel_fd device_;
  std::uint32_t id_;
};

/// Its node is open, and nothing can be asked of it yet.
class unbound_device {
 public:
  unbound_device(syscalls& system, kernel_fd node) noexcept
      : system_{&system}, device_{std::move(node)} {}

  /// Who does it later has told KVM too late: it is known from binding on.
  [[nodiscard]] result<> tell(const kvm_vfio& kvm) noexcept;
  /// @param token  of a virtual function that wants one; kernels since 6.17 take it
  /// @context      blocks for about 110 ms: the device is reset
  /// @spec         VFIO_DEVICE_BIND_IOMMUFD
  [[nodiscard]] result<bound_device> bind(int iommufd,
                                          const std::optional<vf_token>& token) && noexcept;

 private:
  syscalls* system_;
  std::optional<kvm_file> told_;
  kernel_fd device_;
};

/// A group whose devices can be opened, by several who share it.
class shared_group {
 public:
  shared_group(syscalls& system, kernel_fd group, std::optional<kvm_file> told = {}) noexcept
      : system_{&system}, told_{std::move(told)}, group_{std::move(group)} {}

  [[nodiscard]] int fd() const noexcept { return group_.get(); }  // borrowed
  /// The same group once more, with a descriptor of its own.
  [[nodiscard]] result<shared_group> duplicate() const noexcept;
  /// @param name  the device's address; " vf_token=UUID" follows where it wants one
  /// @context     blocks for about 110 ms: the device is reset
  /// @spec        VFIO_GROUP_GET_DEVICE_FD
  [[nodiscard]] result<attached_device> open_device(const std::string& name) const noexcept;

 private:
  syscalls* system_;
  std::optional<kvm_file> told_;  // goes last
  kernel_fd group_;
};

/// A group in a container, of which no device was opened yet.
class joined_group {
 public:
  joined_group(syscalls& system, kernel_fd group) noexcept
      : system_{&system}, group_{std::move(group)} {}

  /// Who does it later has told KVM too late: it is known from opening a device on. Before 6.0 the
  /// container must have its kind of IOMMU by then.
  [[nodiscard]] result<> tell(const kvm_vfio& kvm) noexcept;
  [[nodiscard]] shared_group share() && noexcept {
    return {*system_, std::move(group_), std::move(told_)};
  }

 private:
  syscalls* system_;
  std::optional<kvm_file> told_;
  kernel_fd group_;
};

/// A group's node is open, and it is in no container.
class unbound_group {
 public:
  unbound_group(syscalls& system, kernel_fd node) noexcept
      : system_{&system}, group_{std::move(node)} {}

  /// Whether all of its devices are VFIO's, or have no driver. @spec VFIO_GROUP_GET_STATUS
  [[nodiscard]] result<bool> is_viable() const noexcept;
  /// @spec VFIO_GROUP_SET_CONTAINER
  [[nodiscard]] result<joined_group> join(int container) && noexcept;

 private:
  syscalls* system_;
  kernel_fd group_;
};

}  // namespace runnel::vfio
