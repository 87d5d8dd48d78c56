#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <optional>
#include <span>

#include "mempool/base/bits.h"
#include "mempool/base/check.h"
#include "mempool/base/copy.h"
#include "mempool/base/error.h"
#include "mempool/base/poison.h"
#include "mempool/buffer.h"
#include "mempool/window.h"

namespace runnel {

struct pool_options {
  std::size_t buffer_bytes = 4096;
  std::uint32_t count = 256;
  std::size_t alignment = 4096;     // power of two; buffers are spaced by a multiple of it
  std::optional<numa_node> near{};  // where its user runs
};

/// Buffers of one size for one thread, last in first out so that the next one is warm in cache. It
/// belongs to the thread that first takes a buffer. Buffers that end elsewhere gather aside, and
/// come home when the owner has no other left.
/// Free buffers are poisoned under AddressSanitizer: it cannot see DMA, but it sees the CPU.
/// @context `get`: the owner; the return of a buffer: any thread. A few cycles, no allocation
class buffer_pool {
 public:
  /// Carves the memory from `memory`. @error no_memory, with the bytes that would be needed
  /// @context control thread
  [[nodiscard]] static outcome<std::unique_ptr<buffer_pool>> create(window& memory,
                                                                    const pool_options& options);
  buffer_pool(const buffer_pool&) = delete;
  buffer_pool& operator=(const buffer_pool&) = delete;
  ~buffer_pool();  // every buffer must be home: devices that may hold some are closed before

  /// An empty (false) buffer when none is free. Its content is whatever it last held.
  [[nodiscard]] buffer get() noexcept;

  /// @context the owner; what another thread returns meanwhile may be missing
  [[nodiscard]] std::size_t free_count() const noexcept;
  [[nodiscard]] std::size_t count() const noexcept { return count_; }
  [[nodiscard]] std::size_t buffer_bytes() const noexcept { return buffer_bytes_; }
  [[nodiscard]] const region& memory() const noexcept { return window_.memory(); }

 private:
  friend class buffer;
  friend class buffer_batch;
  buffer_pool(window& memory, std::span<std::byte> storage, const pool_options& options);
  static constexpr std::uint32_t none = ~std::uint32_t{0};
  static constexpr std::align_val_t stack_alignment{cache_line_bytes};  // batches then stay aligned
  struct stack_deleter {
    void operator()(std::byte** stack) const noexcept {
      ::operator delete[](static_cast<void*>(stack), stack_alignment);
    }
  };

  std::size_t take(std::span<std::byte*> out) noexcept;
  std::size_t take_what_is_left(std::span<std::byte*> out) noexcept;
  void put(std::byte* data) noexcept;
  void put(std::span<std::byte* const> buffers) noexcept;
  void put_from_elsewhere(std::byte* data) noexcept;
  void take_home() noexcept;
  [[nodiscard]] bool is_home() const noexcept;  // whether this thread is the owner

  window& window_;
  std::span<std::byte> storage_;
  std::size_t buffer_bytes_;
  std::size_t stride_;  // from one buffer to the next
  std::size_t count_;
  std::unique_ptr<std::byte*[], stack_deleter>
      free_;  // stack of free buffers, top at free_count_ - 1
  std::size_t free_count_ = 0;
  std::atomic<const void*> owner_ = nullptr;  // the thread, by its pointer; null: none took one yet

  // Returned by other threads: a stack of buffer numbers, pushed by anyone, taken as a whole by the
  // owner. Links are not kept in the buffers, where a device could write.
  std::unique_ptr<std::uint32_t[]> next_;
  alignas(cache_line_bytes) std::atomic<std::uint32_t> returned_;
};

inline buffer buffer_pool::get() noexcept {
  if (free_count_ == 0) [[unlikely]] {
    take_home();
    if (free_count_ == 0) {
      return {};
    }
  }
  const std::span<std::byte> data{free_[--free_count_], buffer_bytes_};
  unpoison(data);
  return buffer{*this, data};
}

/// Inlined, so that a number known to the caller makes a copy of known length.
/// @return how many of `out` were filled: fewer when the pool runs out
[[gnu::always_inline]] inline std::size_t buffer_pool::take(std::span<std::byte*> out) noexcept {
  if (free_count_ < out.size()) [[unlikely]] {
    return take_what_is_left(out);
  }
  free_count_ -= out.size();
  copy_warm(std::span<std::byte* const>{free_.get() + free_count_, out.size()}, out.data());
  if constexpr (poison_is_seen) {
    for (std::byte* const data : out) {
      unpoison({data, buffer_bytes_});
    }
  }
  return out.size();
}

inline bool buffer_pool::is_home() const noexcept {
  return owner_.load(std::memory_order_relaxed) == __builtin_thread_pointer();
}

inline void buffer_pool::put(std::byte* data) noexcept {
  if (!is_home()) [[unlikely]] {
    put_from_elsewhere(data);
    return;
  }
  CHECK(free_count_ < count_);
  poison({data, buffer_bytes_});
  free_[free_count_++] = data;
}

[[gnu::always_inline]] inline void buffer_pool::put(std::span<std::byte* const> buffers) noexcept {
  if (poison_is_seen || !is_home()) [[unlikely]] {
    for (std::byte* const data : buffers) {
      put(data);
    }
    return;
  }
  CHECK(buffers.size() <= count_ - free_count_);
  copy_warm(buffers, free_.get() + free_count_);
  free_count_ += buffers.size();
}

inline buffer::~buffer() {
  if (pool_ != nullptr) {
    pool_->put(data_.data());
  }
}

inline const region& buffer::memory() const noexcept {
  return pool_->memory();
}

}  // namespace runnel
