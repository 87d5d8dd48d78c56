#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace runnel {

/// What a thread is there for, and so what it may ask of the kernel.
enum class thread_role : std::uint8_t {
  reactor,  // polls and serves peers: whoever breaks in comes in here
  helper,   // makes calls that block, and tells what tasks wait for
  control,  // waits for the end, prints, takes everything down
};
inline constexpr std::size_t thread_roles = 3;

/// Any of them, as bits.
struct role_set {
  unsigned bits;
  [[nodiscard]] constexpr bool has(thread_role role) const noexcept {
    return (bits >> static_cast<unsigned>(role) & 1U) != 0;
  }
};

/// A system call that they may make.
struct allowed_call {
  int number;
  role_set who;
  /// Only where `argument[index] & mask == value`; a mask of 0: whatever it is given.
  unsigned index = 0;
  std::uint64_t mask = 0;
  std::uint64_t value = 0;
};

/// All that the threads of a started program need; it opens, connects, starts and becomes nothing
/// any more. A call in several rows may be made as any of them says.
/// @context control thread; allocates
[[nodiscard]] std::vector<allowed_call> allowed_calls();

}  // namespace runnel
