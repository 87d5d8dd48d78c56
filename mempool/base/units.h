#pragma once

#include <cstdint>

namespace runnel {

enum class iova : std::uint64_t {};        // bus address, bytes; never converts to a pointer
enum class lba : std::uint64_t {};         // in blocks of the namespace
enum class command_id : std::uint16_t {};  // unique among commands in flight on one queue
enum class queue_id : std::uint16_t {};    // 0 is the admin queue
enum class core_id : std::uint32_t {};     // as the operating system numbers them
enum class numa_node : std::uint32_t {};   // of memory, numbered likewise

/// The number inside a strong type.
template <class Unit>
  requires __is_enum
(Unit) [[nodiscard]] constexpr auto raw(Unit value) noexcept {
  return static_cast<__underlying_type(Unit)>(value);
}

[[nodiscard]] constexpr iova operator+(iova base, std::uint64_t bytes) noexcept {
  return iova{raw(base) + bytes};
}
[[nodiscard]] constexpr lba operator+(lba base, std::uint64_t blocks) noexcept {
  return lba{raw(base) + blocks};
}

inline constexpr std::uint64_t kib = 1024;
inline constexpr std::uint64_t mib = 1024 * kib;
inline constexpr std::uint64_t gib = 1024 * mib;

}  // namespace runnel
