#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>
#include <type_traits>

#include "mempool/base/bits.h"
#include "mempool/base/prefetch.h"

namespace runnel {

/// What one core has another do: a small function, with what it captured. By itself it is not
/// over-aligned, for g++ 12 does not align coroutine frames.
struct message {
  static constexpr std::size_t payload_bytes = 48;

  message() noexcept = default;
  template <class F>
    requires(std::is_trivially_copyable_v<F> && std::is_nothrow_invocable_v<F&> &&
             sizeof(F) <= payload_bytes)
  explicit message(const F& f) noexcept
      : deliver{[](std::byte* at) noexcept { (*std::launder(reinterpret_cast<F*>(at)))(); }} {
    std::memcpy(payload.data(), &f, sizeof f);
  }

  void (*deliver)(std::byte* payload) noexcept;
  alignas(8) std::array<std::byte, payload_bytes> payload;
};

/// Messages from one core to one other, in order. Each lies in a cache line together with the
/// number that says that it is there, so one line travels for a message, as in a bare ping-pong,
/// and no index does: the sender looks at the receiver's once a lap.
///
/// A receiver that has found messages watches the lane for a while, turn by turn. When it looks
/// away it says so, and the sender has to tell it of the next message.
class lane {
 public:
  static constexpr std::uint32_t capacity = 256;
  static constexpr std::uint32_t lively_looks_max = 64;
  static constexpr std::uint32_t quiet_looks_max = 1024;  // then the receiver looks away

  // The sender's.

  /// False when the lane is full.
  [[nodiscard]] bool try_push(const message& what) noexcept {
    if (pushed_ - popped_seen_ == capacity) {
      // pairs with `pop`: the receiver has left the slot that we overwrite
      popped_seen_ = popped_.load(std::memory_order_acquire);
      if (pushed_ - popped_seen_ == capacity) {
        return false;
      }
    }
    slot& next = slots_[pushed_ % capacity];
    next.what = what;
    next.number.store(++pushed_, std::memory_order_release);  // pairs with `front`
    return true;
  }

  /// After pushing, and a full fence that pairs with that of `look_away`: the receiver finds the
  /// messages by itself, or false.
  [[nodiscard]] bool watched() const noexcept { return watched_.load(std::memory_order_relaxed); }

  /// Takes the line of the next message from the receiver, who looked at it, before there is one:
  /// pushing need not wait for it then.
  void expect_push() const noexcept { prefetch_to_write(&slots_[pushed_ % capacity]); }

  // The receiver's.

  /// The oldest message, until `pop`; null: there is none.
  [[nodiscard]] message* front() noexcept {
    slot& oldest = slots_[pops_ % capacity];
    // pairs with `try_push`: the message came before its number
    const bool there = oldest.number.load(std::memory_order_acquire) == pops_ + 1;
    return there ? &oldest.what : nullptr;
  }

  /// Messages came a moment ago: more may, and answers to them go back.
  [[nodiscard]] bool lively() const noexcept { return quiet_looks_ < lively_looks_max; }

  void pop() noexcept { popped_.store(++pops_, std::memory_order_release); }  // pairs with try_push

  void watch() noexcept {
    quiet_looks_ = 0;
    watched_.store(true, std::memory_order_relaxed);
  }

  /// After a look at it. @param count  messages that it found
  /// @return false: nothing came for so long that the sender has to tell of the next
  [[nodiscard]] bool worth_watching(std::uint32_t count) noexcept {
    quiet_looks_ = count != 0 ? 0 : quiet_looks_ + 1;
    return quiet_looks_ < quiet_looks_max || !look_away();
  }

 private:
  struct alignas(cache_line_bytes) slot {
    message what;
    std::atomic<std::uint32_t> number{0};  // of the message, counted from 1
  };
  static_assert(sizeof(slot) == cache_line_bytes);

  /// @return false: something came meanwhile
  bool look_away() noexcept {
    watched_.store(false, std::memory_order_relaxed);
    // pairs with that of the sender: we see its message, or it sees that we do not watch
    std::atomic_thread_fence(std::memory_order_seq_cst);
    const bool still_quiet = front() == nullptr;
    if (!still_quiet) {
      watch();
    }
    return still_quiet;
  }

  std::array<slot, capacity> slots_;

  alignas(cache_line_bytes) std::uint32_t pushed_ = 0;
  std::uint32_t popped_seen_ = 0;
  std::atomic<bool> watched_{false};  // seldom written by the receiver, looked at by the sender

  alignas(cache_line_bytes) std::uint32_t pops_ = 0;
  std::uint32_t quiet_looks_ = 0;
  std::atomic<std::uint32_t> popped_{0};  // seldom looked at by the sender
};

}  // namespace runnel
