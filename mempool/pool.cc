#include "mempool/pool.h"

#include <algorithm>
#include <bit>
#include <string>

#include "mempool/base/bits.h"
#include "mempool/base/check.h"
#include "mempool/base/checked.h"
#include "mempool/base/poison.h"

namespace runnel {

outcome<std::unique_ptr<buffer_pool>> buffer_pool::create(window& memory,
                                                          const pool_options& options) {
  CHECK(options.buffer_bytes > 0 && options.count > 0);
  CHECK(std::has_single_bit(options.alignment));
  const std::size_t stride = align_up(options.buffer_bytes, options.alignment);
  const auto bytes = checked_mul<std::size_t>(stride, options.count);
  const auto storage =
      bytes ? memory.allocate(*bytes, options.alignment, options.near) : fail(errc::no_memory);
  if (!storage) {
    return fail(storage.error(), "create a pool of",
                std::to_string(options.count) + " buffers of " +
                    std::to_string(options.buffer_bytes) + " bytes",
                "it needs " + std::to_string(bytes.value_or(~std::size_t{0})) + " bytes, " +
                    std::to_string(memory.free_bytes()) +
                    " are free in the window: make the window larger");
  }
  return std::unique_ptr<buffer_pool>{new buffer_pool{memory, *storage, options}};
}

buffer_pool::buffer_pool(window& memory, std::span<std::byte> storage, const pool_options& options)
    : window_{memory},
      storage_{storage},
      buffer_bytes_{options.buffer_bytes},
      stride_{align_up(options.buffer_bytes, options.alignment)},
      count_{options.count},
      free_{new(stack_alignment) std::byte*[options.count]},
      next_{std::make_unique<std::uint32_t[]>(options.count)},
      returned_{0} {
  poison(storage_);
  for (std::uint32_t i = 0; i < options.count; ++i) {
    next_[i] = i + 1 < options.count ? i + 1 : none;
  }
}

buffer_pool::~buffer_pool() {
  CHECK(free_count() == count_);
  unpoison(storage_);
  window_.release(storage_);
}

std::size_t buffer_pool::free_count() const noexcept {
  std::size_t count = free_count_;
  // pairs with the release of whoever returned them: the links are there
  for (std::uint32_t each = returned_.load(std::memory_order_acquire); each != none;
       each = next_[each]) {
    ++count;
  }
  return count;
}

std::size_t buffer_pool::take_what_is_left(std::span<std::byte*> out) noexcept {
  take_home();
  return take(out.first(std::min(out.size(), free_count_)));
}

void buffer_pool::put_from_elsewhere(std::byte* data) noexcept {
  poison({data, buffer_bytes_});
  const auto number =
      static_cast<std::uint32_t>(static_cast<std::size_t>(data - storage_.data()) / stride_);
  std::uint32_t top = returned_.load(std::memory_order_relaxed);
  do {
    next_[number] = top;
    // pairs with the owner's acquire: the link, and our last use of the buffer, come first
  } while (!returned_.compare_exchange_weak(top, number, std::memory_order_release,
                                            std::memory_order_relaxed));
}

/// What others returned becomes free here, so that the lowest of a new pool ends up on top.
void buffer_pool::take_home() noexcept {
  const void* const owner = owner_.load(std::memory_order_relaxed);
  CHECK(owner == nullptr || owner == __builtin_thread_pointer());
  owner_.store(__builtin_thread_pointer(), std::memory_order_relaxed);
  const std::size_t before = free_count_;
  // pairs with the release of whoever returned them
  std::uint32_t each = returned_.exchange(none, std::memory_order_acquire);
  for (; each != none; each = next_[each]) {
    CHECK(free_count_ < count_);
    free_[free_count_++] = storage_.data() + std::size_t{each} * stride_;
  }
  std::ranges::reverse(std::span{free_.get(), free_count_}.subspan(before));
}

}  // namespace runnel
