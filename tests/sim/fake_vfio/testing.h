#pragma once

#include <fcntl.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "drivers/vfio/syscalls.h"
#include "drivers/vfio/uapi/cdev.h"
#include "drivers/vfio/uapi/iommufd.h"
#include "drivers/vfio/uapi/type1.h"
#include "tests/sim/fake_vfio/kernel.h"

// A user of the fake kernel that asks it directly, as a test of a rule does.
namespace runnel::sim {

namespace uapi = vfio::uapi;

/// 0, or the errno.
template <class T>
[[nodiscard]] int errno_of(const result<T>& answer) {
  return answer ? 0 : static_cast<int>(answer.error().detail);
}

class raw_user {
 public:
  explicit raw_user(const machine_options& options = {}) : kernel{options} {}

  fake_kernel kernel;

  [[nodiscard]] vfio::kernel_fd open(const char* path) {
    auto opened = kernel.open(path, O_RDWR);
    return opened ? std::move(*opened) : vfio::kernel_fd{};
  }
  template <class T>
  [[nodiscard]] int ask(const vfio::kernel_fd& fd, unsigned long request, T& structure) {
    return errno_of(vfio::ioctl_on(kernel, fd.get(), request, structure));
  }
  [[nodiscard]] int ask_value(const vfio::kernel_fd& fd, unsigned long request,
                              std::uintptr_t value) {
    return errno_of(kernel.ioctl(fd.get(), request, value));
  }

  [[nodiscard]] int set_container(const vfio::kernel_fd& group, const vfio::kernel_fd& container) {
    std::int32_t fd = container.get();
    return ask(group, uapi::ioctls::group_set_container, fd);
  }
  /// A device of a group that has a container; an invalid descriptor when that fails.
  [[nodiscard]] vfio::kernel_fd open_device(const vfio::kernel_fd& group, const char* name) {
    const auto fd = kernel.ioctl(group.get(), uapi::ioctls::group_get_device_fd,
                                 reinterpret_cast<std::uintptr_t>(name));
    return fd ? vfio::kernel_fd{kernel, *fd} : vfio::kernel_fd{};
  }

  [[nodiscard]] int map(const vfio::kernel_fd& container, std::uint64_t iova, std::uint64_t bytes) {
    uapi::iommu_type1_dma_map asked{.argsz = sizeof(asked),
                                    .flags = 3,
                                    .vaddr = reinterpret_cast<std::uintptr_t>(memory),
                                    .iova = iova,
                                    .size = bytes};
    return ask(container, uapi::ioctls::iommu_map_dma, asked);
  }
  /// @param bytes  in: how much; out: how much it was
  [[nodiscard]] int unmap(const vfio::kernel_fd& container, std::uint64_t iova,
                          std::uint64_t& bytes) {
    uapi::iommu_type1_dma_unmap asked{
        .argsz = sizeof(asked), .flags = 0, .iova = iova, .size = bytes};
    const int answer = ask(container, uapi::ioctls::iommu_unmap_dma, asked);
    bytes = asked.size;
    return answer;
  }

  alignas(page) static inline std::byte memory[16 * page];
};

}  // namespace runnel::sim
