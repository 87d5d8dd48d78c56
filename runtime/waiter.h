#pragma once

#include <cstddef>
#include <memory>
#include <span>

#include "mempool/base/clock.h"
#include "mempool/base/error.h"

namespace runnel {

/// What the kernel of a guest needs to wake a thread at a time it was told, nine times of ten.
inline constexpr nanoseconds waking_takes{80'000};

/// The one seam through which a reactor waits for the world outside its rings: file descriptors
/// that become readable, and time. A simulation puts its own here and moves a virtual clock.
class waiter {
 public:
  virtual ~waiter() = default;

  /// From now on `wait` reports `token` while `fd` is readable or hung up. @error os
  [[nodiscard]] virtual result<> watch(int fd, void* token) noexcept = 0;
  virtual void forget(int fd) noexcept = 0;

  /// Waits until a watched fd is readable, `interrupt` is called or `until` has come, or is so near
  /// that waking takes as long; with `until <= now` it only looks. @return tokens filled
  virtual std::size_t wait(instant now, instant until, std::span<void*> readable) noexcept = 0;

  /// Ends the present or the next `wait` early. @context any thread, signal handlers too
  virtual void interrupt() noexcept = 0;
};

/// Waits in epoll; interrupted by an eventfd. @error os
[[nodiscard]] outcome<std::unique_ptr<waiter>> make_epoll_waiter();

}  // namespace runnel
