#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

#include "mempool/base/error.h"

namespace runnel::vfio {

class kernel_fd;

/// The system calls by which the kernel's devices are reached: all of them, so that another kernel
/// can stand in for the real one. Each answers as the system does; @error os, with its errno.
///
/// @context any thread; may block where the kernel does (opening, binding and resetting a device)
class syscalls {
 public:
  virtual ~syscalls() = default;

  /// @param flags  as of open(2); O_CLOEXEC is added
  [[nodiscard]] virtual result<kernel_fd> open(const char* path, int flags) noexcept = 0;
  /// Another descriptor of the same file.
  [[nodiscard]] virtual result<kernel_fd> duplicate(int fd) noexcept = 0;
  virtual void close(int fd) noexcept = 0;  // nothing useful can be done about a failing close

  /// @param argument  a number, or the address of what the request says
  [[nodiscard]] virtual result<int> ioctl(int fd, unsigned long request,
                                          std::uintptr_t argument) noexcept = 0;

  /// Shared with the device, readable and writable.
  [[nodiscard]] virtual result<std::span<std::byte>> mmap(int fd, std::uint64_t offset,
                                                          std::uint64_t bytes) noexcept = 0;
  /// What a device that is not there reads as, all ones, takes the place of what mmap returned:
  /// nothing of the device is mapped there any more, but the addresses are valid until munmap.
  [[nodiscard]] virtual result<> replace(std::span<std::byte> mapped) noexcept = 0;
  virtual void munmap(std::span<std::byte> mapped) noexcept = 0;  // @pre what mmap returned

  /// @return bytes that were read or written; fewer than asked for at the end
  [[nodiscard]] virtual result<std::size_t> pread(int fd, std::span<std::byte> into,
                                                  std::uint64_t offset) noexcept = 0;
  [[nodiscard]] virtual result<std::size_t> pwrite(int fd, std::span<const std::byte> from,
                                                   std::uint64_t offset) noexcept = 0;

  /// Where the kernel has pages of ours: an entry of /proc/self/pagemap for each, from one on. They
  /// are touched before: the kernel gives a page its place when somebody does.
  /// @param pagemap  a descriptor of that file; it tells what who opened it may know
  [[nodiscard]] virtual result<> read_pagemap(int pagemap, const std::byte* first,
                                              std::span<std::uint64_t> entries) noexcept = 0;
  /// Bytes that this process may lock in memory, and so pin for devices; ~0: any number.
  [[nodiscard]] virtual std::uint64_t memlock_limit() noexcept = 0;
};

/// An ioctl on a structure, which the kernel reads and may write.
template <class T>
[[nodiscard]] result<int> ioctl_on(syscalls& system, int fd, unsigned long request,
                                   T& structure) noexcept {
  return system.ioctl(fd, request, reinterpret_cast<std::uintptr_t>(&structure));
}

/// Owns a descriptor that came through the seam.
class kernel_fd {
 public:
  kernel_fd() noexcept = default;
  kernel_fd(syscalls& system, int fd) noexcept : system_{&system}, fd_{fd} {}
  kernel_fd(kernel_fd&& other) noexcept
      : system_{other.system_}, fd_{std::exchange(other.fd_, -1)} {}
  kernel_fd& operator=(kernel_fd&& other) noexcept {
    if (this != &other) {
      reset();
      system_ = other.system_;
      fd_ = std::exchange(other.fd_, -1);
    }
    return *this;
  }
  kernel_fd(const kernel_fd&) = delete;
  kernel_fd& operator=(const kernel_fd&) = delete;
  ~kernel_fd() { reset(); }

  [[nodiscard]] int get() const noexcept { return fd_; }
  [[nodiscard]] explicit operator bool() const noexcept { return fd_ >= 0; }
  void reset() noexcept {
    if (fd_ >= 0) {
      system_->close(std::exchange(fd_, -1));
    }
  }

 private:
  syscalls* system_ = nullptr;
  int fd_ = -1;
};

/// Those of the kernel we run on.
[[nodiscard]] syscalls& real_syscalls() noexcept;

}  // namespace runnel::vfio
