#pragma once

#include <cstddef>
#include <span>

#include "mempool/base/error.h"
#include "mempool/pages.h"

namespace runnel::target {

/// The doorbells of one controller for one client: a page at `offset` of a file shaped like BAR 0,
/// that the client may map. The registers before it are not in the file.
class doorbell_page {
 public:
  static constexpr std::size_t offset = 0x1000;
  static constexpr std::size_t bytes = 0x1000;

  /// @param bar_bytes  length of the file @error os
  [[nodiscard]] static outcome<doorbell_page> create(std::size_t bar_bytes);

  doorbell_page(doorbell_page&& other) noexcept;
  doorbell_page& operator=(doorbell_page&& other) noexcept;
  doorbell_page(const doorbell_page&) = delete;
  doorbell_page& operator=(const doorbell_page&) = delete;
  ~doorbell_page();

  [[nodiscard]] std::span<std::byte> memory() const noexcept { return {page_, bytes}; }
  [[nodiscard]] int fd() const noexcept { return file_.fd.get(); }

 private:
  doorbell_page(page_file file, std::byte* page) noexcept;

  page_file file_;
  std::byte* page_ = nullptr;
};

}  // namespace runnel::target
