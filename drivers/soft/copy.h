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

/// Copies whole steps, each after `before` of where it begins. @return bytes done
template <class Store, class Before>
[[gnu::always_inline]] inline std::size_t copy_steps(std::byte* to, const std::byte* from,
                                                     std::size_t bytes, Store store,
                                                     Before before) noexcept {
  std::size_t done = 0;
  for (; bytes - done >= copy_step_bytes; done += copy_step_bytes) {
    before(done);
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

inline void store_cached(__m256i* where, __m256i what) noexcept {
  _mm256_storeu_si256(where, what);
}

/// Copies through the caches: for data that somebody reads soon.
inline void copy_cached(std::byte* to, const std::byte* from, std::size_t bytes) noexcept {
  const std::size_t done = copy_steps(to, from, bytes, store_cached, [](std::size_t) {});
  std::memcpy(to + done, from + done, bytes - done);
}

/// The same, and line for line fetches as many bytes from `next` on, which nobody need own.
inline void copy_fetching(std::byte* to, const std::byte* from, std::size_t bytes,
                          const std::byte* next) noexcept {
  const std::size_t done = copy_steps(to, from, bytes, store_cached, [next](std::size_t at) {
    prefetch_to_read(next + at);
    prefetch_to_read(next + at + cache_line_bytes);
  });
  std::memcpy(to + done, from + done, bytes - done);
}

inline constexpr std::size_t fetch_ahead_bytes = 4096;

/// Copies through the caches what has not been touched for long. A line takes as long to come as a
/// block to copy, so the lines are asked for a block ahead; by itself the processor starts anew at
/// each page and with few lines at a time.
/// @param next  where the copy after this one reads; null: nobody knows
inline void copy_cold(std::byte* to, const std::byte* from, std::size_t bytes,
                      const std::byte* next) noexcept {
  std::size_t done = 0;
  for (; bytes - done > fetch_ahead_bytes; done += fetch_ahead_bytes) {
    copy_fetching(to + done, from + done, fetch_ahead_bytes, from + done + fetch_ahead_bytes);
  }
  if (next == nullptr) {
    const std::size_t half = align_down((bytes - done) / 2, copy_step_bytes);
    copy_fetching(to + done, from + done, half, from + done + half);
    done += half;
    copy_cached(to + done, from + done, bytes - done);
    return;
  }
  copy_fetching(to + done, from + done, bytes - done, next);
}

/// Copies past the caches: the target's lines are not fetched first. Others see the bytes only
/// after `finish_streaming`.
inline void copy_streaming(std::byte* to, const std::byte* from, std::size_t bytes) noexcept {
  const std::uintptr_t start = reinterpret_cast<std::uintptr_t>(to);
  const std::size_t first = std::min(bytes, align_up(start, cache_line_bytes) - start);
  std::memcpy(to, from, first);  // streams write whole lines or are slow
  const std::size_t done =
      first + copy_steps(
                  to + first, from + first, bytes - first,
                  [](__m256i* where, __m256i what) { _mm256_stream_si256(where, what); },
                  [](std::size_t) {});
  std::memcpy(to + done, from + done, bytes - done);
}

/// Streamed bytes become visible before any later store, such as the one that reports completion.
inline void finish_streaming() noexcept {
  _mm_sfence();
}

/// Has the first lines of a block on their way while another is copied into; once it sees the
/// pattern, the processor brings the rest.
inline void prefetch_block_to_write(const std::byte* block) noexcept {
  constexpr std::size_t prefetch_bytes = 512;
  for (std::size_t line = 0; line < prefetch_bytes; line += cache_line_bytes) {
    prefetch_to_write(block + line);
  }
}

}  // namespace runnel::soft
