#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "mempool/base/checked.h"
#include "mempool/base/units.h"

namespace runnel {

enum class access : std::uint8_t { none = 0, read = 1, write = 2, read_write = 3 };

[[nodiscard]] constexpr bool allows(access granted, access wanted) noexcept {
  return (static_cast<unsigned>(granted) & static_cast<unsigned>(wanted)) ==
         static_cast<unsigned>(wanted);
}

/// Memory that devices may touch: one run of addresses backed by one file, at one bus address.
/// Its bus address is the same in every domain that maps it, so translating is one addition.
/// Region 0 is our own window; a served client's memory is regions 1..n that come and go.
struct region {
  std::byte* address = nullptr;
  std::size_t length = 0;
  std::uint64_t iova_offset = 0;            // iova = address + offset, modulo 2^64
  access permissions = access::read_write;  // what a device may do
  int fd = -1;                              // borrowed; for handing the memory to another process
  std::uint64_t fd_offset = 0;              // where `address` is in `fd`

  [[nodiscard]] iova to_iova(const std::byte* inside) const noexcept {
    return iova{reinterpret_cast<std::uintptr_t>(inside) + iova_offset};
  }
  [[nodiscard]] iova first_iova() const noexcept { return to_iova(address); }
  [[nodiscard]] bool contains(const std::byte* first, std::size_t bytes) const noexcept {
    const auto base = reinterpret_cast<std::uintptr_t>(address);
    const auto start = reinterpret_cast<std::uintptr_t>(first);
    return start >= base && range_within(start - base, bytes, length);
  }
};

}  // namespace runnel
