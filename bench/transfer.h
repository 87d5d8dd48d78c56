#pragma once

#include <immintrin.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "bench/pinned.h"
#include "bench/samples.h"
#include "mempool/base/bits.h"
#include "mempool/base/check.h"
#include "mempool/base/clock.h"

// Entries that one thread makes and another adds up, through whatever ring is between them.
namespace runnel::bench {

template <std::size_t Bytes>
struct entry {
  std::array<std::uint64_t, Bytes / sizeof(std::uint64_t)> words;
};

/// Makes entries: every word of one is its number.
template <class Entry>
class source {
 public:
  void fill(std::span<Entry> slots) noexcept {
    for (Entry& slot : slots) {
      slot.words.fill(next_++);
    }
  }

 private:
  std::uint64_t next_ = 0;
};

/// Reads every word of the entries that arrive.
template <class Entry>
class sink {
 public:
  void take(std::span<const Entry> entries) noexcept {
    for (const Entry& one : entries) {
      for (const std::uint64_t word : one.words) {
        sum_ += word;
      }
    }
    read_ += entries.size();
  }
  /// Entries that arrived and were not looked at.
  void pass(std::size_t count) noexcept { passed_ += count; }

  [[nodiscard]] std::uint64_t count() const noexcept { return read_ + passed_; }
  /// Whether all that was made has arrived once, up to the last of it.
  [[nodiscard]] bool adds_up() const noexcept {
    return sum_ == read_ * (read_ - 1) / 2 * std::tuple_size_v<decltype(Entry::words)>;
  }

 private:
  std::uint64_t sum_ = 0;
  std::uint64_t read_ = 0;
  std::uint64_t passed_ = 0;
};

struct core_pair {
  core_id sender;
  core_id receiver;
};

/// How often a side that cannot go on pauses before it looks again: rings differ in what suits
/// them.
inline constexpr std::array patiences{1, 16, 64};

inline void pause(int times) noexcept {
  for (int i = 0; i < times; ++i) {
    _mm_pause();
  }
}

/// TSC cycles for one entry on its way from one core to another at the full rate: the median over
/// slices, so that those in which somebody else had a core do not count. Sides that cannot go on
/// pause, as everybody's own benches do.
template <class Ring>
[[nodiscard]] double cycles_per_entry(const core_pair& cores, double seconds, int patience) {
  using entry_type = typename Ring::entry_type;
  constexpr std::uint64_t slice = 32'768;
  Ring ring;
  alignas(2 * cache_line_bytes) std::atomic<bool> stop = false;
  alignas(2 * cache_line_bytes) std::vector<double> samples;
  auto send = [&ring, &stop, patience] {
    source<entry_type> from;
    while (!stop.load(std::memory_order_relaxed)) {
      if (!ring.send(from)) {
        pause(patience);
      }
    }
  };
  auto receive = [&] {
    sink<entry_type> into;
    std::uint64_t now = tsc_now();
    const std::uint64_t end =
        now + static_cast<std::uint64_t>(seconds * static_cast<double>(tsc_hz()));
    while (now < end) {
      const std::uint64_t before = into.count();
      while (into.count() - before < slice) {
        if (!ring.receive(into)) {
          pause(patience);
        }
      }
      const std::uint64_t began = std::exchange(now, tsc_now());
      samples.push_back(static_cast<double>(now - began) /
                        static_cast<double>(into.count() - before));
    }
    stop.store(true, std::memory_order_relaxed);
    CHECK(into.adds_up());
  };
  {
    const pinned_thread sender = start_on(cores.sender, "sender", send);
    const pinned_thread receiver = start_on(cores.receiver, "receiver", receive);
  }
  return median_of(samples);
}

/// With the patience that suits the ring.
template <class Ring>
[[nodiscard]] double least_cycles_per_entry(const core_pair& cores, double seconds) {
  double least = cycles_per_entry<Ring>(cores, seconds / patiences.size(), patiences[0]);
  for (std::size_t i = 1; i < patiences.size(); ++i) {
    least =
        std::min(least, cycles_per_entry<Ring>(cores, seconds / patiences.size(), patiences[i]));
  }
  return least;
}

}  // namespace runnel::bench
