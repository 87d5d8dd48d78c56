#pragma once

#include <cstddef>
#include <cstring>
#include <span>

namespace runnel {

/// Copies entries that were just made, or are read at once: by loads and stores of the width that
/// the compiler gives all code. The C library takes the widest registers the machine has, and a
/// load wider than the stores before it waits until those have left for the cache; that is long
/// when older ones wait for a line of another core.
/// @pre `to` has room, and does not overlap
template <class T>
[[gnu::always_inline]] inline void copy_warm(std::span<const T> from, T* to) noexcept {
  using word [[gnu::vector_size(32), gnu::may_alias, gnu::aligned(1)]] = unsigned char;
  const auto* source = reinterpret_cast<const std::byte*>(from.data());
  auto* target = reinterpret_cast<std::byte*>(to);
  std::size_t left = from.size_bytes();
  for (; left >= 2 * sizeof(word); left -= 2 * sizeof(word)) {
    const word low = reinterpret_cast<const word*>(source)[0];
    const word high = reinterpret_cast<const word*>(source)[1];
    reinterpret_cast<word*>(target)[0] = low;
    reinterpret_cast<word*>(target)[1] = high;
    source += 2 * sizeof(word);
    target += 2 * sizeof(word);
  }
  if (left != 0) {
    std::memcpy(target, source, left);
  }
}

}  // namespace runnel
