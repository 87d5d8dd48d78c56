#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

#include "apps/target/controller_state.h"

namespace runnel::target {

inline constexpr std::size_t register_bytes = 0x1000;  // of BAR 0; the doorbells follow

/// What an access of some bytes and a range of addresses have in common.
struct overlap {
  std::size_t in_access = 0;  // where it begins, counted from the first byte of the access
  std::size_t in_range = 0;   // and of the range
  std::size_t bytes = 0;
};

/// @pre offset + length does not wrap
[[nodiscard]] constexpr overlap find_overlap(std::size_t offset, std::size_t length,
                                             std::size_t range_begin,
                                             std::size_t range_bytes) noexcept {
  const std::size_t first = std::max(offset, range_begin);
  const std::size_t end = std::min(offset + length, range_begin + range_bytes);
  return first < end ? overlap{first - offset, first - range_begin, end - first} : overlap{};
}

/// The controller's registers as bytes. Reads and writes of any width at any offset below
/// `register_bytes` are well defined: bits that are read-only or absent keep their value.
/// @spec NVMe Base 2.0 §3.1.3
class register_file {
 public:
  register_file(register_state& state, std::uint64_t capabilities, std::uint32_t version) noexcept
      : state_{state}, capabilities_{capabilities}, version_{version} {}

  /// @pre offset + size does not wrap, for both
  void read(std::size_t offset, std::span<std::byte> out) const noexcept;
  /// Only stores; what a new CC means is the controller's business.
  void write(std::size_t offset, std::span<const std::byte> in) noexcept;

 private:
  register_state& state_;
  std::uint64_t capabilities_;
  std::uint32_t version_;
};

}  // namespace runnel::target
