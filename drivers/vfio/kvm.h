#pragma once

#include <utility>

#include "drivers/vfio/syscalls.h"
#include "mempool/base/error.h"

// A virtual machine monitor tells KVM what its guest uses of VFIO, before it opens any device.
namespace runnel::vfio {

/// A group or node that KVM knows of; it forgets it when this goes. KVM and this keep it open until
/// then. Has descriptors of its own, for it goes on whatever thread closes the device.
class kvm_file {
 public:
  kvm_file(syscalls& system, kernel_fd kvm, kernel_fd file) noexcept
      : system_{&system}, kvm_{std::move(kvm)}, file_{std::move(file)} {}
  kvm_file(kvm_file&&) noexcept = default;
  kvm_file& operator=(kvm_file&& other) noexcept {
    forget();
    system_ = other.system_;
    kvm_ = std::move(other.kvm_);
    file_ = std::move(other.file_);
    return *this;
  }
  kvm_file(const kvm_file&) = delete;
  kvm_file& operator=(const kvm_file&) = delete;
  ~kvm_file() { forget(); }

 private:
  void forget() noexcept;

  syscalls* system_;
  kernel_fd kvm_;
  kernel_fd file_;  // KVM knows files, not descriptors
};

/// KVM's VFIO device of one virtual machine, which lives as long as this or any of its files does.
/// @context any thread
/// @spec    Linux Documentation/virt/kvm/devices/vfio.rst
class kvm_vfio {
 public:
  /// @param machine  a virtual machine's descriptor; borrowed during the call
  /// @error busy     it has such a device: there is one for a machine
  /// @error os
  [[nodiscard]] static outcome<kvm_vfio> create(syscalls& system, int machine);

  /// Of a group or a device's node. The states of `lifecycle.h` do it while it is time.
  /// @param file  borrowed
  /// @error       os, with EEXIST: it knows it already
  [[nodiscard]] result<kvm_file> add(int file) const noexcept;
  /// On Power: which table translates for a group that it knows. @error os, with ENXIO elsewhere
  [[nodiscard]] result<> set_spapr_tce(int group, int table) const noexcept;

 private:
  kvm_vfio(syscalls& system, kernel_fd device) noexcept
      : system_{&system}, device_{std::move(device)} {}

  syscalls* system_;
  kernel_fd device_;
};

}  // namespace runnel::vfio
