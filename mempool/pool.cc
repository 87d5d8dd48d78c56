#include "mempool/pool.h"

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
  const auto storage = bytes ? memory.allocate(*bytes, options.alignment) : fail(errc::no_memory);
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
      free_{std::make_unique<std::byte*[]>(options.count)} {
  poison(storage_);
  for (std::size_t i = count_; i > 0; --i) {  // the first buffer ends up on top
    free_[free_count_++] = storage_.data() + (i - 1) * stride_;
  }
}

buffer_pool::~buffer_pool() {
  CHECK(free_count_ == count_);
  unpoison(storage_);
  window_.release(storage_);
}

}  // namespace runnel
