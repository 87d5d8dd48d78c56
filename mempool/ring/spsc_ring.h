#pragma once

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <optional>
#include <span>
#include <type_traits>
#include <utility>

#include "mempool/base/bits.h"
#include "mempool/base/check.h"
#include "mempool/base/copy.h"

namespace runnel {

/// A bounded queue from one thread to one other, without locks. Each side is an *end*, a move-only
/// object that is handed out once, so there cannot be a second producer or consumer.
///
///   spsc_ring<message> ring{1024};
///   auto in = ring.take_producer();   // to one thread
///   auto out = ring.take_consumer();  // to the other
///   in.try_push(hello);               // by copying, or in place: reserve() ... commit()
///
/// Entries are numbered by free-running 32-bit indices: `tail` counts what was ever produced,
/// `head` what was ever consumed, tail - head is the fill, and no slot is wasted. An end keeps its
/// own index and the last it saw of its peer's, and looks at the peer's cache line only when that
/// is not enough.
///
/// @context an end belongs to one thread at a time; the ring outlives its ends
template <class T>
  requires(std::is_trivially_copyable_v<T> && std::is_default_constructible_v<T>)
class spsc_ring {
 public:
  class producer;
  class consumer;

  static constexpr std::uint32_t capacity_max = std::uint32_t{1} << 31U;

  /// @param capacity  entries, a power of two
  explicit spsc_ring(std::uint32_t capacity)
      : slots_{new(std::align_val_t{slot_alignment}) T[capacity]}, capacity_{capacity} {
    CHECK(std::has_single_bit(capacity) && capacity <= capacity_max);
  }
  spsc_ring(const spsc_ring&) = delete;
  spsc_ring& operator=(const spsc_ring&) = delete;
  ~spsc_ring() = default;

  /// The one producing end. @pre not taken before
  [[nodiscard]] producer take_producer() noexcept {
    CHECK(!std::exchange(producer_taken_, true));
    return producer{*this};
  }
  /// The one consuming end. @pre not taken before
  [[nodiscard]] consumer take_consumer() noexcept {
    CHECK(!std::exchange(consumer_taken_, true));
    return consumer{*this};
  }

  [[nodiscard]] std::uint32_t capacity() const noexcept { return capacity_; }

 private:
  static constexpr std::size_t slot_alignment = std::max(alignof(T), cache_line_bytes);
  struct slot_deleter {
    void operator()(T* slots) const noexcept {
      ::operator delete[](slots, std::align_val_t{slot_alignment});
    }
  };

  /// Slots from `index` on that adjoin in memory, at most `count`.
  [[nodiscard]] std::span<T> run(std::uint32_t index, std::size_t count) noexcept {
    const std::uint32_t slot = index & (capacity_ - 1);
    return {slots_.get() + slot, std::min<std::size_t>(count, capacity_ - slot)};
  }

  std::unique_ptr<T[], slot_deleter> slots_;
  std::uint32_t capacity_;
  bool producer_taken_ = false;
  bool consumer_taken_ = false;
  alignas(cache_line_bytes) std::atomic<std::uint32_t> tail_{0};  // written by the producer only
  alignas(cache_line_bytes) std::atomic<std::uint32_t> head_{0};  // written by the consumer only
};

template <class T>
  requires(std::is_trivially_copyable_v<T> && std::is_default_constructible_v<T>)
class alignas(cache_line_bytes) spsc_ring<T>::producer {
 public:
  producer(producer&& other) noexcept
      : ring_{std::exchange(other.ring_, nullptr)}, tail_{other.tail_}, head_{other.head_} {}
  producer& operator=(producer&&) = delete;
  producer(const producer&) = delete;
  producer& operator=(const producer&) = delete;
  ~producer() = default;

  /// False when the ring is full.
  [[nodiscard]] bool try_push(const T& value) noexcept {
    const std::span<T> slot = reserve(1);
    if (slot.empty()) {
      return false;
    }
    slot.front() = value;
    commit(1);
    return true;
  }

  /// Appends the first values that fit and publishes them as one batch. @return how many
  std::size_t push(std::span<const T> values) noexcept {
    const std::size_t count = std::min(values.size(), room(values.size()));
    if (count == 0) {
      return 0;  // publishing nothing would still take the cache line from the consumer
    }
    const std::span<T> front = ring_->run(tail_, count);
    copy_warm(values.first(front.size()), front.data());
    copy_warm(values.subspan(front.size(), count - front.size()), ring_->slots_.get());
    commit(count);
    return count;
  }

  /// Free slots to be filled in place, at most `count`. Fewer when the ring is nearly full or its
  /// storage wraps here: commit those and ask again. What they hold is left over from earlier laps.
  [[nodiscard]] std::span<T> reserve(std::size_t count) noexcept {
    return ring_->run(tail_, std::min(count, room(count)));
  }

  /// Hands the first `count` reserved slots to the consumer. @pre they were filled
  void commit(std::size_t count) noexcept {
    tail_ += static_cast<std::uint32_t>(count);
    CHECK(tail_ - head_ <= ring_->capacity_);
    // pairs with the consumer's acquire load of tail: the entries are visible before their number
    ring_->tail_.store(tail_, std::memory_order_release);
  }

 private:
  friend class spsc_ring;
  explicit producer(spsc_ring& ring) noexcept : ring_{&ring} {}

  /// Free slots; looks at the consumer's index only when fewer than `wanted` are known to be free.
  [[nodiscard]] std::size_t room(std::size_t wanted) noexcept {
    if (ring_->capacity_ - (tail_ - head_) < wanted) {
      // pairs with the consumer's release store of head: it has left the slots we overwrite
      head_ = ring_->head_.load(std::memory_order_acquire);
    }
    return ring_->capacity_ - (tail_ - head_);
  }

  spsc_ring* ring_;
  std::uint32_t tail_ = 0;
  std::uint32_t head_ = 0;  // as last seen
};

template <class T>
  requires(std::is_trivially_copyable_v<T> && std::is_default_constructible_v<T>)
class alignas(cache_line_bytes) spsc_ring<T>::consumer {
 public:
  consumer(consumer&& other) noexcept
      : ring_{std::exchange(other.ring_, nullptr)}, head_{other.head_}, tail_{other.tail_} {}
  consumer& operator=(consumer&&) = delete;
  consumer(const consumer&) = delete;
  consumer& operator=(const consumer&) = delete;
  ~consumer() = default;

  /// Empty when the ring is.
  [[nodiscard]] std::optional<T> try_pop() noexcept {
    const std::span<const T> front = peek(1);
    if (front.empty()) {
      return std::nullopt;
    }
    const T value = front.front();
    consume(1);
    return value;
  }

  /// Takes the oldest entries. @return how many
  std::size_t pop(std::span<T> out) noexcept {
    const std::size_t count = std::min(out.size(), fill(out.size()));
    if (count == 0) {
      return 0;  // as in push
    }
    const std::span<const T> front = ring_->run(head_, count);
    copy_warm(front, out.data());
    copy_warm(std::span<const T>{ring_->slots_.get(), count - front.size()},
              out.data() + front.size());
    consume(count);
    return count;
  }

  /// The oldest entries in place, at most `count`; fewer where the storage wraps. They stay until
  /// consumed.
  [[nodiscard]] std::span<const T> peek(std::size_t count) noexcept {
    return ring_->run(head_, std::min(count, fill(count)));
  }

  /// Gives the slots of the oldest `count` entries back to the producer. @pre they were peeked
  void consume(std::size_t count) noexcept {
    CHECK(count <= tail_ - head_);
    head_ += static_cast<std::uint32_t>(count);
    // pairs with the producer's acquire load of head: our reads are over before it overwrites
    ring_->head_.store(head_, std::memory_order_release);
  }

 private:
  friend class spsc_ring;
  explicit consumer(spsc_ring& ring) noexcept : ring_{&ring} {}

  /// Entries there; looks at the producer's index only when fewer than `wanted` are known of.
  [[nodiscard]] std::size_t fill(std::size_t wanted) noexcept {
    if (tail_ - head_ < wanted) {
      // pairs with the producer's release store of tail: entries up to it are complete
      tail_ = ring_->tail_.load(std::memory_order_acquire);
    }
    return tail_ - head_;
  }

  spsc_ring* ring_;
  std::uint32_t head_ = 0;
  std::uint32_t tail_ = 0;  // as last seen
};

}  // namespace runnel
