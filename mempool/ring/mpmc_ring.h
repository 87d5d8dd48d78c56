#pragma once

#include <atomic>
#include <bit>
#include <cstdint>
#include <memory>
#include <optional>
#include <type_traits>

#include "mempool/base/bits.h"
#include "mempool/base/check.h"

namespace runnel {

/// A bounded queue that any thread may fill and any thread may empty.
///
/// Entries are numbered by free-running 32-bit indices. Each slot says whose turn it is: the number
/// of the entry that may be written there next, or that number plus one once it can be read. A
/// thread takes a number by compare-and-swap and then has the slot for itself. Some thread succeeds
/// in every round, so nobody holds the others up, but for one case: a thread that is preempted
/// between its number and its slot hides the entries behind it until it runs again.
///
/// @context any thread; neither side waits or allocates
template <class T>
  requires(std::is_trivially_copyable_v<T> && std::is_default_constructible_v<T>)
class mpmc_ring {
 public:
  static constexpr std::uint32_t capacity_max = std::uint32_t{1} << 30U;

  /// @param capacity  entries, a power of two, at least 2
  explicit mpmc_ring(std::uint32_t capacity)
      : slots_{std::make_unique<slot[]>(capacity)}, capacity_{capacity} {
    CHECK(std::has_single_bit(capacity) && capacity >= 2 && capacity <= capacity_max);
    for (std::uint32_t i = 0; i < capacity; ++i) {
      slots_[i].turn.store(i, std::memory_order_relaxed);
    }
  }
  mpmc_ring(const mpmc_ring&) = delete;
  mpmc_ring& operator=(const mpmc_ring&) = delete;
  ~mpmc_ring() = default;

  /// False when the ring is full.
  [[nodiscard]] bool try_push(const T& value) noexcept {
    const std::optional<std::uint32_t> number = take_number(tail_, 0);
    if (!number) {
      return false;
    }
    slot& mine = at(*number);
    mine.value = value;
    mine.turn.store(*number + 1, std::memory_order_release);  // pairs with a consumer's acquire
    return true;
  }

  /// Empty when the ring is.
  [[nodiscard]] std::optional<T> try_pop() noexcept {
    const std::optional<std::uint32_t> number = take_number(head_, 1);
    if (!number) {
      return std::nullopt;
    }
    slot& mine = at(*number);
    const T value = mine.value;
    // pairs with the acquire of the producer of the next lap: our read is over
    mine.turn.store(*number + capacity_, std::memory_order_release);
    return value;
  }

  /// Whether an entry waits; another thread may take it meanwhile.
  [[nodiscard]] bool maybe_empty() const noexcept {
    const std::uint32_t head = head_.load(std::memory_order_relaxed);
    return at(head).turn.load(std::memory_order_relaxed) != head + 1;
  }

  [[nodiscard]] std::uint32_t capacity() const noexcept { return capacity_; }

 private:
  struct slot {
    std::atomic<std::uint32_t> turn;
    T value;
  };

  [[nodiscard]] slot& at(std::uint32_t number) const noexcept {
    return slots_[number & (capacity_ - 1)];
  }

  /// The next number of one side, once its slot's turn is that number plus `ahead`.
  /// @return empty when the slot is a lap behind: the ring is full, or empty
  [[nodiscard]] std::optional<std::uint32_t> take_number(std::atomic<std::uint32_t>& next,
                                                         std::uint32_t ahead) noexcept {
    std::uint32_t number = next.load(std::memory_order_relaxed);
    for (;;) {
      // pairs with the release of whoever had the slot before
      const std::uint32_t turn = at(number).turn.load(std::memory_order_acquire);
      const auto lead = static_cast<std::int32_t>(turn - (number + ahead));
      if (lead < 0) {
        return std::nullopt;
      }
      if (lead > 0) {
        number = next.load(std::memory_order_relaxed);  // others were faster
      } else if (next.compare_exchange_weak(number, number + 1, std::memory_order_relaxed)) {
        return number;
      }
    }
  }

  std::unique_ptr<slot[]> slots_;
  std::uint32_t capacity_;
  alignas(cache_line_bytes) std::atomic<std::uint32_t> tail_{0};
  alignas(cache_line_bytes) std::atomic<std::uint32_t> head_{0};
};

}  // namespace runnel
