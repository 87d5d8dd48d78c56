#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "mempool/base/error.h"
#include "mempool/base/units.h"
#include "mempool/region.h"

namespace runnel::vfio_user {

/// One run of our addresses in which nothing is mapped until a file is placed there. Takes no
/// memory. @context one core; every call is a system call or two
class address_reserve {
 public:
  static constexpr std::uint64_t bytes = 1024 * gib;
  /// As large as itself: then it holds the largest pages there are, and a client's memory that we
  /// hand on to another server, at our addresses, crosses none of its reserves either.
  static constexpr std::uint64_t alignment = bytes;

  /// @error os (address space limit)
  [[nodiscard]] static result<address_reserve> create() noexcept;

  address_reserve(address_reserve&& other) noexcept;
  address_reserve& operator=(address_reserve&& other) noexcept;
  address_reserve(const address_reserve&) = delete;
  address_reserve& operator=(const address_reserve&) = delete;
  ~address_reserve();

  [[nodiscard]] std::span<std::byte> range() const noexcept { return {base_, bytes}; }

  /// Bytes of a file that are to appear, all in whole pages of that file.
  struct placement {
    std::uint64_t offset = 0;  // in this reserve
    std::uint64_t length = 0;
    int fd = -1;
    std::uint64_t fd_offset = 0;
    access permissions = access::read_write;
  };

  /// Shares the file's pages at `offset`, over whatever was there. @error os
  [[nodiscard]] result<std::byte*> place(const placement& what) noexcept;

  /// Makes [first, first + length) empty again. @pre inside the reserve, in pages of its file
  void clear(std::byte* first, std::uint64_t length) noexcept;

 private:
  explicit address_reserve(std::byte* base) noexcept : base_{base} {}
  void give_back() noexcept;

  std::byte* base_;
};

}  // namespace runnel::vfio_user
