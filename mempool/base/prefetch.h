#pragma once

// Hints to the processor. Assembly, because g++ 12 deletes calls of functions that do nothing but
// __builtin_prefetch, and writes to other cores' lines need the form that asks for ownership.
namespace runnel {

/// Has the cache line of `address` on its way for a load.
inline void prefetch_to_read(const void* address) noexcept {
  asm volatile("prefetcht0 %0" : : "m"(*static_cast<const char*>(address)));
}

/// The same for a store: other cores' copies are gone when it comes.
inline void prefetch_to_write(const void* address) noexcept {
  asm volatile("prefetchw %0" : : "m"(*static_cast<const char*>(address)));
}

}  // namespace runnel
