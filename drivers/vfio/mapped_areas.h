#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "drivers/vfio/syscalls.h"
#include "mempool/sigbus.h"

namespace runnel::vfio {

/// What is mapped of a device into this process. Its addresses are valid as long as this is, also
/// where the device has gone or sleeps: touched then, they read as ones, where the application has
/// installed `handle_sigbus`.
class mapped_areas {
 public:
  explicit mapped_areas(syscalls& system) noexcept : system_{&system} {}
  mapped_areas(const mapped_areas&) = delete;
  mapped_areas& operator=(const mapped_areas&) = delete;
  ~mapped_areas() { unmap(); }

  /// @return empty where that cannot be mapped, or where more is than SIGBUS can be told of
  [[nodiscard]] std::span<std::byte> map(int fd, std::uint64_t offset,
                                         std::uint64_t bytes) noexcept;
  /// Takes the device away from all of them, so that it can be let go while its users still have
  /// the addresses: what is read there then is ones. False: it still has some; again later.
  [[nodiscard]] bool replace() noexcept;
  /// Whether the device was not there when one of them was touched.
  [[nodiscard]] bool faulted() const noexcept { return guard_ && guard_->poisoned(); }
  void unmap() noexcept;

 private:
  syscalls* system_;
  std::vector<std::span<std::byte>> areas_;
  std::optional<sigbus_guard> guard_;  // covers them; made with the first
  std::size_t replaced_ = 0;           // of them, from the first on
};

}  // namespace runnel::vfio
