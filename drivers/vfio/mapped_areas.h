#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "drivers/vfio/syscalls.h"

namespace runnel::vfio {

/// What is mapped of a device into this process. Its addresses are valid as long as this is.
class mapped_areas {
 public:
  explicit mapped_areas(syscalls& system) noexcept : system_{&system} {}
  mapped_areas(const mapped_areas&) = delete;
  mapped_areas& operator=(const mapped_areas&) = delete;
  ~mapped_areas() { unmap(); }

  /// @return empty where that cannot be mapped
  [[nodiscard]] std::span<std::byte> map(int fd, std::uint64_t offset,
                                         std::uint64_t bytes) noexcept;
  /// Takes the device away from all of them, so that it can be let go while its users still have
  /// the addresses: what is read there then is ones. False: it still has some; again later.
  [[nodiscard]] bool replace() noexcept;
  void unmap() noexcept;

 private:
  syscalls* system_;
  std::vector<std::span<std::byte>> areas_;
  std::size_t replaced_ = 0;  // of them, from the first on
};

}  // namespace runnel::vfio
