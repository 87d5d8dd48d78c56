#pragma once

#include <cstddef>
#include <span>

#include "mempool/base/check.h"
#include "mempool/base/sanitizer.h"

// AddressSanitizer cannot see DMA, so memory that must not be touched is marked by hand: a pool
// poisons its free buffers, a device checks what it is given. All of it is nothing in other builds.

#if defined(RUNNEL_ADDRESS_SANITIZER)
#include <sanitizer/asan_interface.h>
#endif

namespace runnel {

#if defined(RUNNEL_ADDRESS_SANITIZER)
inline constexpr bool poison_is_seen = true;

inline void poison(std::span<std::byte> bytes) noexcept {
  __asan_poison_memory_region(bytes.data(), bytes.size());
}
inline void unpoison(std::span<std::byte> bytes) noexcept {
  __asan_unpoison_memory_region(bytes.data(), bytes.size());
}
inline void check_not_poisoned(std::span<std::byte> bytes) noexcept {
  CHECK(__asan_region_is_poisoned(bytes.data(), bytes.size()) == nullptr);
}
#else
inline constexpr bool poison_is_seen = false;

inline void poison(std::span<std::byte>) noexcept {}
inline void unpoison(std::span<std::byte>) noexcept {}
inline void check_not_poisoned(std::span<std::byte>) noexcept {}
#endif

}  // namespace runnel
