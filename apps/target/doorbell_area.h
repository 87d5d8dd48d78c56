#pragma once

#include <cstddef>
#include <span>

#include "apps/target/controller_state.h"
#include "apps/target/registers.h"
#include "mempool/base/bits.h"
#include "mempool/base/error.h"
#include "mempool/pages.h"

namespace runnel::target {

/// The doorbells of one controller for one client: pages at `offset` of a file shaped like BAR 0,
/// that the client may map. The registers before them are not in the file. Each doorbell has a
/// cache line of its own: hosts ring from many cores.
class doorbell_area {
 public:
  static constexpr std::size_t offset = register_bytes;
  static constexpr std::size_t bytes = 2 * cache_line_bytes * queues_max;  // whole pages

  /// @param bar_bytes  length of the file @error os
  [[nodiscard]] static outcome<doorbell_area> create(std::size_t bar_bytes);

  doorbell_area(doorbell_area&& other) noexcept;
  doorbell_area& operator=(doorbell_area&& other) noexcept;
  doorbell_area(const doorbell_area&) = delete;
  doorbell_area& operator=(const doorbell_area&) = delete;
  ~doorbell_area();

  [[nodiscard]] std::span<std::byte> memory() const noexcept { return {memory_, bytes}; }
  [[nodiscard]] int fd() const noexcept { return file_.fd.get(); }

 private:
  doorbell_area(page_file file, std::byte* memory) noexcept;

  page_file file_;
  std::byte* memory_ = nullptr;
};

}  // namespace runnel::target
