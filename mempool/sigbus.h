#pragma once

#include <signal.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

#include "mempool/base/error.h"

// Memory of others that is mapped here may go away at any time: a client shrinks the file behind
// it, a device is unplugged or sleeps. Touching what is gone raises SIGBUS. That must end this
// client or device, not our process.
namespace runnel {

/// Tells whether a SIGBUS was a touch of memory under some guard, and repairs it: a page of ours
/// takes the place of the missing one, and the guard counts as poisoned. False: not ours; call the
/// handler that was there before. The application installs the handler (with SA_SIGINFO); we never
/// do.
///
/// @context signal handler, any thread; no locks, no allocation
[[nodiscard]] bool handle_sigbus(const siginfo_t& info) noexcept;

/// The address ranges of one client or device in the table that `handle_sigbus` looks at.
/// @context one core
class sigbus_guard {
 public:
  static constexpr std::size_t guards_max = 256;  // clients and devices of one process
  static constexpr std::size_t ranges_max = 17;   // per guard

  /// @param filler  what pages are full of that take the place of missing ones
  /// @error         no_memory (there are guards_max)
  [[nodiscard]] static result<sigbus_guard> create(std::byte filler = {}) noexcept;

  sigbus_guard(sigbus_guard&& other) noexcept;
  sigbus_guard& operator=(sigbus_guard&& other) noexcept;
  sigbus_guard(const sigbus_guard&) = delete;
  sigbus_guard& operator=(const sigbus_guard&) = delete;
  ~sigbus_guard();

  /// Range number `index` is now `range`. @pre index < ranges_max, `range` is not empty
  void cover(std::size_t index, std::span<std::byte> range) noexcept;
  /// Range number `index` is no more; before its addresses mean something else.
  void uncover(std::size_t index) noexcept;

  /// A touch of one of the ranges faulted.
  [[nodiscard]] bool poisoned() const noexcept {
    return poisoned_->load(std::memory_order_relaxed);
  }
  /// Forgets the fault: the ranges belong to the next client.
  void clear_poison() noexcept;

 private:
  explicit sigbus_guard(std::size_t entry) noexcept : entry_{entry} {}
  void give_back() noexcept;

  static constexpr std::size_t no_entry = guards_max;
  std::size_t entry_;                            // in the process-wide table
  const std::atomic<bool>* poisoned_ = nullptr;  // the entry's flag
};

}  // namespace runnel
