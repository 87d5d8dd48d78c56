#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <string_view>

namespace runnel::target {

/// Text of the specification: padded with spaces, not terminated, cut where it is too long.
template <std::size_t Size>
void put_text(std::array<char, Size>& field, std::string_view text) noexcept {
  field.fill(' ');
  std::ranges::copy(text.substr(0, Size), field.begin());
}

}  // namespace runnel::target
