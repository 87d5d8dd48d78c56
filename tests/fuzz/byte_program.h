#pragma once

#include <algorithm>
#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

namespace runnel::fuzz {

/// An input of the fuzzer, read from its front as a program: operations, their operands, bytes to
/// pass on. At its end every read gives zero, so each input means something.
class byte_program {
 public:
  explicit byte_program(std::span<const std::uint8_t> input) noexcept
      : rest_{std::as_bytes(input)} {}
  explicit byte_program(std::span<const std::byte> input) noexcept : rest_{input} {}

  [[nodiscard]] bool empty() const noexcept { return rest_.empty(); }

  /// The next bytes as a little-endian number.
  template <std::unsigned_integral T>
  [[nodiscard]] T take() noexcept {
    T value = 0;
    const auto bytes = take_bytes(sizeof value);
    std::memcpy(&value, bytes.data(), bytes.size());
    return value;
  }
  [[nodiscard]] std::uint8_t take_byte() noexcept { return take<std::uint8_t>(); }

  /// A number in [0, limit), of one byte. @pre 0 < limit <= 256
  template <class Number = std::uint32_t>
  [[nodiscard]] Number below(std::size_t limit) noexcept {
    return static_cast<Number>(take_byte() % limit);
  }

  /// True for one byte value in `odds`, never at the end of the input: what is rare and bad.
  [[nodiscard]] bool rarely(std::size_t odds) noexcept { return below(odds) == odds - 1; }

  template <class T, std::size_t Count>
  [[nodiscard]] T pick(const std::array<T, Count>& choices) noexcept {
    return choices[below(Count)];
  }

  /// A number as edges like it: small, near `about` by whole pages or bytes, or anything.
  [[nodiscard]] std::uint64_t take_near(std::uint64_t about) noexcept {
    constexpr std::uint64_t page = 4096;
    switch (below(8)) {
      case 0:
        return about;
      case 1:
      case 2:
        return about + take_byte() * page;
      case 3:
        return about + take<std::uint16_t>();
      case 4:
        return about + take_byte() * page - 8;
      case 5:
        return take_byte();
      case 6:
        return 0 - std::uint64_t{take_byte()};
      default:
        return take<std::uint64_t>();
    }
  }

  /// The next `count` bytes, or what is left of them; borrowed from the input.
  [[nodiscard]] std::span<const std::byte> take_bytes(std::size_t count) noexcept {
    const auto taken = rest_.first(std::min(count, rest_.size()));
    rest_ = rest_.subspan(taken.size());
    return taken;
  }

  /// Bytes with their length before them.
  [[nodiscard]] std::span<const std::byte> take_blob() noexcept { return take_bytes(take_byte()); }

 private:
  std::span<const std::byte> rest_;
};

}  // namespace runnel::fuzz
