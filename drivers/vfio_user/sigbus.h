#pragma once

#include <signal.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

#include "mempool/base/error.h"

// A client may shrink the file behind its memory at any time; touching what is gone raises SIGBUS.
// That must end this client, not our process.
namespace runnel::vfio_user {

/// Tells whether a SIGBUS was a touch of some client's memory, and repairs it: zero pages take the
/// place of the missing ones, and the client counts as poisoned. False: not ours; call the handler
/// that was there before. The application installs the handler (with SA_SIGINFO); we never do.
///
/// @context signal handler, any thread; no locks, no allocation
[[nodiscard]] bool handle_sigbus(const siginfo_t& info) noexcept;

/// The address ranges of one client in the table that `handle_sigbus` looks at.
/// @context one core
class sigbus_guard {
 public:
  static constexpr std::size_t guards_max = 256;  // clients of one process
  static constexpr std::size_t ranges_max = 17;   // per client

  /// @error no_memory (guards_max clients exist)
  [[nodiscard]] static result<sigbus_guard> create() noexcept;

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

}  // namespace runnel::vfio_user
