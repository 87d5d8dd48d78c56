#pragma once

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

namespace runnel::sim {

class group_file;
class group_home;
class iommufd_file;

/// What a descriptor of the fake kernel stands for. Descriptors and other files hold it by
/// reference count, as in the kernel; the last one to let go is its release.
/// Operations return what the system call does, an errno as a negative number.
class kernel_file {
 public:
  kernel_file() = default;
  kernel_file(const kernel_file&) = delete;
  kernel_file& operator=(const kernel_file&) = delete;
  virtual ~kernel_file() = default;

  [[nodiscard]] virtual int ioctl(unsigned long request, std::uintptr_t argument) = 0;
  [[nodiscard]] virtual std::int64_t pread(std::span<std::byte>, std::uint64_t) { return -EINVAL; }
  [[nodiscard]] virtual std::int64_t pwrite(std::span<const std::byte>, std::uint64_t) {
    return -EINVAL;
  }

  /// A real file that holds what is mapped.
  struct backing {
    int fd = -1;
    std::uint64_t offset = 0;
  };
  [[nodiscard]] virtual std::optional<backing> mmap(std::uint64_t, std::uint64_t) {
    return std::nullopt;
  }

  /// Whether it is a group or a device, of which KVM may be told.
  [[nodiscard]] virtual bool is_for_kvm() const { return false; }
  // What kind it is: null unless it is that.
  [[nodiscard]] virtual group_file* as_group() { return nullptr; }
  [[nodiscard]] virtual group_home* as_group_home() { return nullptr; }
  [[nodiscard]] virtual iommufd_file* as_iommufd() { return nullptr; }
};

/// A file that is only read, see fake_kernel::read_pagemap.
class pagemap_file final : public kernel_file {
 public:
  [[nodiscard]] int ioctl(unsigned long, std::uintptr_t) override { return -ENOTTY; }
};

/// The structure that the caller of an ioctl has at `argument`.
template <class T>
[[nodiscard]] T& user(std::uintptr_t argument) {
  return *reinterpret_cast<T*>(argument);
}

}  // namespace runnel::sim
