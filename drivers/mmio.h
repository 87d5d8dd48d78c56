#pragma once

#include <atomic>
#include <concepts>
#include <cstddef>
#include <cstdint>

// The only place with volatile. Device memory and memory that another process or core writes is
// read and written here, once, whole, in the order given by the barriers below. Atomic, too, which
// costs nothing and tells sanitizers that it is meant.
namespace runnel {

template <std::unsigned_integral T>
[[nodiscard]] inline T mmio_read(const void* address) noexcept {
  return __atomic_load_n(static_cast<const volatile T*>(address), __ATOMIC_RELAXED);
}

template <std::unsigned_integral T>
inline void mmio_write(void* address, T value) noexcept {
  __atomic_store_n(static_cast<volatile T*>(address), value, __ATOMIC_RELAXED);
}

/// One load that the compiler neither repeats nor tears. For words a device or peer writes.
template <class T>
  requires(std::integral<T>)
[[nodiscard]] inline T read_once(const T& word) noexcept {
  return __atomic_load_n(const_cast<const volatile T*>(&word), __ATOMIC_RELAXED);
}

template <class T>
  requires(std::integral<T>)
inline void write_once(T& word, T value) noexcept {
  __atomic_store_n(const_cast<volatile T*>(&word), value, __ATOMIC_RELAXED);
}

/// Later loads see what the device wrote before the flag just read. x86: loads are ordered.
inline void dma_rmb() noexcept {
  std::atomic_thread_fence(std::memory_order_acquire);
}

/// Earlier stores reach memory before the store (doorbell, phase) that follows. x86: stores are
/// ordered among themselves.
inline void dma_wmb() noexcept {
  std::atomic_thread_fence(std::memory_order_release);
}

/// Full fence: earlier stores are visible before later loads.
inline void dma_mb() noexcept {
  std::atomic_thread_fence(std::memory_order_seq_cst);
}

/// Tells the core that this is a spin loop.
inline void cpu_pause() noexcept {
  __builtin_ia32_pause();
}

}  // namespace runnel
