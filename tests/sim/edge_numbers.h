#pragma once

#include <cstdint>
#include <limits>

// Addresses and lengths at which arithmetic on what a peer says goes wrong first.
namespace runnel::sim {

inline constexpr std::uint64_t page = 4096;
inline constexpr std::uint64_t top = std::numeric_limits<std::uint64_t>::max();

}  // namespace runnel::sim
