#pragma once

#include <cstddef>
#include <span>

#include "mempool/base/error.h"
#include "mempool/pages.h"

namespace runnel {

/// Memory that neither a device nor another process will ever see: zeroed, all of it there, on huge
/// pages as far as possible. Reserved huge pages are rare on a laptop, but anonymous memory gets
/// transparent ones nearly everywhere, and a memfd does not: random 4 KiB reads gain a fifth.
/// @context control thread to make; the bytes are anyone's
class private_memory {
 public:
  /// @error no_memory, os; the hint names the number to change
  [[nodiscard]] static outcome<private_memory> create(std::size_t bytes);

  private_memory(private_memory&& other) noexcept;
  private_memory& operator=(private_memory&& other) noexcept;
  private_memory(const private_memory&) = delete;
  private_memory& operator=(const private_memory&) = delete;
  ~private_memory();

  [[nodiscard]] std::span<std::byte> bytes() const noexcept { return bytes_; }
  /// `huge`: every page is a reserved one. `normal`: whatever the kernel found.
  [[nodiscard]] page_kind kind() const noexcept { return kind_; }

 private:
  private_memory(std::span<std::byte> mapped, std::span<std::byte> bytes, page_kind kind) noexcept
      : mapped_{mapped}, bytes_{bytes}, kind_{kind} {}

  std::span<std::byte> mapped_;
  std::span<std::byte> bytes_;
  page_kind kind_;
};

}  // namespace runnel
