#pragma once

#include <concepts>
#include <cstdint>
#include <optional>

// Arithmetic on numbers that a guest, a wire or a device supplied. Raw `a + b > size` is a bug
// there: the sum may wrap.
namespace runnel {

template <std::unsigned_integral T>
[[nodiscard]] constexpr std::optional<T> checked_add(T a, T b) noexcept {
  T sum{};
  if (__builtin_add_overflow(a, b, &sum)) {
    return std::nullopt;
  }
  return sum;
}

template <std::unsigned_integral T>
[[nodiscard]] constexpr std::optional<T> checked_mul(T a, T b) noexcept {
  T product{};
  if (__builtin_mul_overflow(a, b, &product)) {
    return std::nullopt;
  }
  return product;
}

/// True when [offset, offset + length) lies inside [0, size), without ever computing a sum.
[[nodiscard]] constexpr bool range_within(std::uint64_t offset, std::uint64_t length,
                                          std::uint64_t size) noexcept {
  return offset <= size && length <= size - offset;
}

/// True when [a, a + a_length) and [b, b + b_length) share a byte. Ranges must not wrap.
[[nodiscard]] constexpr bool ranges_overlap(std::uint64_t a, std::uint64_t a_length,
                                            std::uint64_t b, std::uint64_t b_length) noexcept {
  return a_length != 0 && b_length != 0 && (a < b ? b - a < a_length : a - b < b_length);
}

}  // namespace runnel
