#pragma once

#include <cstddef>
#include <cstring>
#include <span>

// What is done with memory for every command of every seed, also in builds that do not optimise.
namespace runnel::sim {

inline void fill(std::span<std::byte> data, std::byte with) {
  if (!data.empty()) {
    std::memset(data.data(), static_cast<int>(with), data.size());
  }
}

/// By comparing it with itself, a byte further on.
[[nodiscard]] inline bool holds_only(std::span<const std::byte> data, std::byte what) {
  return data.empty() ||
         (data.front() == what && std::memcmp(data.data(), data.data() + 1, data.size() - 1) == 0);
}

}  // namespace runnel::sim
