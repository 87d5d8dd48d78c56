#pragma once

#include <array>
#include <cstddef>
#include <span>

#include "mempool/base/bits.h"
#include "mempool/base/check.h"
#include "mempool/buffer.h"
#include "mempool/pool.h"

namespace runnel {

/// Up to 32 buffers of one pool, owned together. They are taken and go home as one block, for a
/// fraction of what as many single ones cost: what fills the descriptors of a receive queue.
/// @context the pool's owner; no allocation
class buffer_batch {
 public:
  static constexpr std::size_t capacity = 32;

  /// Takes `count`, or what the pool has left. @pre count <= capacity
  buffer_batch(buffer_pool& pool, std::size_t count) noexcept : pool_{pool} {
    CHECK(count <= capacity);
    count_ = pool.take(std::span{data_}.first(count));
  }
  buffer_batch(const buffer_batch&) = delete;
  buffer_batch& operator=(const buffer_batch&) = delete;
  ~buffer_batch() {
    if (count_ == capacity) [[likely]] {
      pool_.put(std::span<std::byte* const, capacity>{data_});  // a copy of known length
    } else {
      pool_.put(buffers());
    }
  }

  /// Where each of them starts.
  [[nodiscard]] std::span<std::byte* const> buffers() const noexcept {
    return std::span{data_}.first(count_);
  }
  [[nodiscard]] std::size_t size() const noexcept { return count_; }

  /// The last of them, on its own from now on. @pre size() > 0
  [[nodiscard]] buffer split_last() noexcept {
    CHECK(count_ > 0);
    return {pool_, {data_[--count_], pool_.buffer_bytes()}};
  }

 private:
  buffer_pool& pool_;
  std::size_t count_;
  alignas(cache_line_bytes) std::array<std::byte*, capacity> data_;  // the first `count_` are ours
};

}  // namespace runnel
