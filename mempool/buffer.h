#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

#include "mempool/region.h"

namespace runnel {

class buffer_pool;

/// One piece of device-reachable memory, owned. Goes home to its pool by itself.
/// @context one thread at a time, any; moving and destroying never allocate
class buffer {
 public:
  buffer() noexcept = default;
  buffer(buffer&& other) noexcept
      : pool_{std::exchange(other.pool_, nullptr)}, data_{std::exchange(other.data_, {})} {}
  buffer& operator=(buffer&& other) noexcept {
    buffer taken{std::move(other)};
    std::swap(pool_, taken.pool_);
    std::swap(data_, taken.data_);
    return *this;
  }
  buffer(const buffer&) = delete;
  buffer& operator=(const buffer&) = delete;
  ~buffer();

  [[nodiscard]] std::byte* data() const noexcept { return data_.data(); }
  [[nodiscard]] std::size_t size() const noexcept { return data_.size(); }
  [[nodiscard]] std::span<std::byte> bytes() const noexcept { return data_; }
  [[nodiscard]] const region& memory() const noexcept;
  [[nodiscard]] explicit operator bool() const noexcept { return pool_ != nullptr; }

 private:
  friend class buffer_pool;
  friend class buffer_batch;
  buffer(buffer_pool& pool, std::span<std::byte> data) noexcept : pool_{&pool}, data_{data} {}

  buffer_pool* pool_ = nullptr;
  std::span<std::byte> data_;
};

}  // namespace runnel
