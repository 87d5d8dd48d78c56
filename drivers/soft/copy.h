#pragma once

#include <immintrin.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "mempool/base/bits.h"
#include "mempool/base/prefetch.h"

// Copies for blocks of a disk in memory: hundreds of bytes to some kilobytes, one side cold. Plain
// AVX2 loops, because the C library takes `rep movsb` from 2 KiB on, which starts slowly.
namespace runnel::soft {

inline constexpr std::size_t copy_step_bytes = 128;  // four registers, two cache lines

/// Copies whole steps from `done` on. @return bytes done
template <class Store>
[[gnu::always_inline]] inline std::size_t copy_steps(std::byte* to, const std::byte* from,
                                                     std::size_t done, std::size_t bytes,
                                                     Store store) noexcept {
  for (; bytes - done >= copy_step_bytes; done += copy_step_bytes) {
    const auto* source = reinterpret_cast<const __m256i*>(from + done);
    auto* target = reinterpret_cast<__m256i*>(to + done);
    const __m256i a = _mm256_loadu_si256(source);
    const __m256i b = _mm256_loadu_si256(source + 1);
    const __m256i c = _mm256_loadu_si256(source + 2);
    const __m256i d = _mm256_loadu_si256(source + 3);
    store(target, a);
    store(target + 1, b);
    store(target + 2, c);
    store(target + 3, d);
  }
  return done;
}

/// Copies through the caches: for data that somebody reads soon.
inline void copy_cached(std::byte* to, const std::byte* from, std::size_t bytes) noexcept {
  const std::size_t done = copy_steps(
      to, from, 0, bytes, [](__m256i* where, __m256i what) { _mm256_storeu_si256(where, what); });
  std::memcpy(to + done, from + done, bytes - done);
}

/// Copies past the caches: the target's lines are not fetched first. Others see the bytes only
/// after `finish_streaming`.
inline void copy_streaming(std::byte* to, const std::byte* from, std::size_t bytes) noexcept {
  const std::uintptr_t start = reinterpret_cast<std::uintptr_t>(to);
  const std::size_t first = std::min(bytes, align_up(start, cache_line_bytes) - start);
  std::memcpy(to, from, first);  // streams write whole lines or are slow
  const std::size_t done = copy_steps(to, from, first, bytes, [](__m256i* where, __m256i what) {
    _mm256_stream_si256(where, what);
  });
  std::memcpy(to + done, from + done, bytes - done);
}

/// Streamed bytes become visible before any later store, such as the one that reports completion.
inline void finish_streaming() noexcept {
  _mm_sfence();
}

inline constexpr std::size_t prefetch_bytes = 512;

/// Has the first lines of a block on their way while something else is copied; once it sees the
/// pattern, the processor's own prefetcher brings the rest.
inline void prefetch_block_to_read(const std::byte* block) noexcept {
  for (std::size_t line = 0; line < prefetch_bytes; line += cache_line_bytes) {
    prefetch_to_read(block + line);
  }
}
inline void prefetch_block_to_write(const std::byte* block) noexcept {
  for (std::size_t line = 0; line < prefetch_bytes; line += cache_line_bytes) {
    prefetch_to_write(block + line);
  }
}

}  // namespace runnel::soft
