#include "drivers/vfio/syscalls.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "drivers/mmio.h"
#include "mempool/stand_in.h"

namespace runnel::vfio {
namespace {

class real final : public syscalls {
 public:
  [[nodiscard]] result<kernel_fd> open(const char* path, int flags) noexcept override {
    return owned(::open(path, flags | O_CLOEXEC));
  }
  [[nodiscard]] result<kernel_fd> duplicate(int fd) noexcept override {
    return owned(::fcntl(fd, F_DUPFD_CLOEXEC, 0));
  }
  void close(int fd) noexcept override { ::close(fd); }

  [[nodiscard]] result<int> ioctl(int fd, unsigned long request,
                                  std::uintptr_t argument) noexcept override {
    const int answer = ::ioctl(fd, request, argument);
    return answer < 0 ? std::unexpected{os_error()} : result<int>{answer};
  }

  [[nodiscard]] result<std::span<std::byte>> mmap(int fd, std::uint64_t offset,
                                                  std::uint64_t bytes) noexcept override {
    void* const at =
        ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, static_cast<off_t>(offset));
    if (at == MAP_FAILED) {
      return std::unexpected{os_error()};
    }
    static_cast<void>(::madvise(at, bytes, MADV_DONTFORK));  // a child would keep the device open
    return std::span{static_cast<std::byte*>(at), bytes};
  }
  [[nodiscard]] result<> replace(std::span<std::byte> mapped) noexcept override {
    return put_stand_in(mapped, std::byte{0xff});
  }
  void munmap(std::span<std::byte> mapped) noexcept override {
    ::munmap(mapped.data(), mapped.size());  // cannot fail for a whole mapping
  }

  [[nodiscard]] result<std::size_t> pread(int fd, std::span<std::byte> into,
                                          std::uint64_t offset) noexcept override {
    return counted(::pread(fd, into.data(), into.size(), static_cast<off_t>(offset)));
  }
  [[nodiscard]] result<std::size_t> pwrite(int fd, std::span<const std::byte> from,
                                           std::uint64_t offset) noexcept override {
    return counted(::pwrite(fd, from.data(), from.size(), static_cast<off_t>(offset)));
  }

  [[nodiscard]] result<> read_pagemap(int pagemap, const std::byte* first,
                                      std::span<std::uint64_t> entries) noexcept override {
    constexpr std::uintptr_t page_bytes = 4096;
    for (std::size_t i = 0; i < entries.size(); ++i) {
      static_cast<void>(mmio_read<std::uint8_t>(first + i * page_bytes));
    }
    const auto into = std::as_writable_bytes(entries);
    const auto read = pread(
        pagemap, into, reinterpret_cast<std::uintptr_t>(first) / page_bytes * sizeof(entries[0]));
    if (!read) {
      return std::unexpected{read.error()};
    }
    return *read == into.size() ? result<>{} : fail(errc::os, EIO);
  }

  [[nodiscard]] std::uint64_t memlock_limit() noexcept override {
    rlimit limit{};
    const bool bounded = !may_lock_all() && ::getrlimit(RLIMIT_MEMLOCK, &limit) == 0 &&
                         limit.rlim_cur != RLIM_INFINITY;
    return bounded ? limit.rlim_cur : ~std::uint64_t{0};
  }

 private:
  [[nodiscard]] result<kernel_fd> owned(int fd) noexcept {
    return fd < 0 ? std::unexpected{os_error()} : result<kernel_fd>{kernel_fd{*this, fd}};
  }
  [[nodiscard]] static result<std::size_t> counted(ssize_t bytes) noexcept {
    return bytes < 0 ? std::unexpected{os_error()}
                     : result<std::size_t>{static_cast<std::size_t>(bytes)};
  }
  /// The kernel counts nothing of who has CAP_IPC_LOCK, as root does.
  [[nodiscard]] static bool may_lock_all() noexcept {
    __user_cap_header_struct head{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
    std::array<__user_cap_data_struct, _LINUX_CAPABILITY_U32S_3> all{};
    return ::syscall(SYS_capget, &head, all.data()) == 0 &&
           (all[CAP_TO_INDEX(CAP_IPC_LOCK)].effective & CAP_TO_MASK(CAP_IPC_LOCK)) != 0;
  }
};

}  // namespace

syscalls& real_syscalls() noexcept {
  static real system;  // has no state
  return system;
}

}  // namespace runnel::vfio
