#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>

namespace runnel {

inline constexpr std::size_t cache_line_bytes = 64;

/// @pre `alignment` is a power of two
[[nodiscard]] constexpr std::uint64_t align_down(std::uint64_t value,
                                                 std::uint64_t alignment) noexcept {
  return value & ~(alignment - 1);
}

/// @pre `alignment` is a power of two and the result fits; peers' numbers go through `checked_*`
[[nodiscard]] constexpr std::uint64_t align_up(std::uint64_t value,
                                               std::uint64_t alignment) noexcept {
  return align_down(value + alignment - 1, alignment);
}

[[nodiscard]] constexpr bool is_aligned(std::uint64_t value, std::uint64_t alignment) noexcept {
  return (value & (alignment - 1)) == 0;
}

/// Bits [first, first + count) of `value`.
[[nodiscard]] constexpr std::uint64_t bit_field(std::uint64_t value, unsigned first,
                                                unsigned count) noexcept {
  return (value >> first) & ((count >= 64 ? 0 : std::uint64_t{1} << count) - 1);
}

/// (a * b) >> shift without losing the upper half of the product.
[[nodiscard]] constexpr std::uint64_t multiply_shift(std::uint64_t a, std::uint64_t b,
                                                     unsigned shift) noexcept {
  __extension__ using wide = unsigned __int128;
  return static_cast<std::uint64_t>((static_cast<wide>(a) * b) >> shift);
}

}  // namespace runnel
