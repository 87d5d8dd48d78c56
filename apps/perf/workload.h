#pragma once

#include <cstdint>

#include "apps/perf/options.h"
#include "mempool/base/bits.h"

namespace runnel::perf {

/// SplitMix64: a step of a few cycles, every seed good, the same everywhere.
class random_stream {
 public:
  explicit random_stream(std::uint64_t seed) noexcept : state_{seed} {}

  std::uint64_t next() noexcept {
    state_ += 0x9e3779b97f4a7c15U;
    std::uint64_t mixed = state_;
    mixed = (mixed ^ (mixed >> 30U)) * 0xbf58476d1ce4e5b9U;
    mixed = (mixed ^ (mixed >> 27U)) * 0x94d049bb133111ebU;
    return mixed ^ (mixed >> 31U);
  }

  /// Uniform in [0, bound): a multiplication, since a division would be 6 % of a fast I/O.
  std::uint64_t below(std::uint64_t bound) noexcept { return multiply_shift(next(), bound, 64); }

 private:
  std::uint64_t state_;
};

/// One I/O to do: which slot of `io_bytes` of the namespace, and in which direction.
struct io_choice {
  std::uint64_t slot = 0;
  bool is_write = false;
};

/// The sequence of I/Os of one core. Sequential cores start evenly spread over the namespace.
class workload {
 public:
  workload(pattern rw, std::uint64_t slots, std::uint64_t first_slot, std::uint64_t seed) noexcept
      : sequential_{rw == pattern::read || rw == pattern::write},
        writes_{rw == pattern::write || rw == pattern::randwrite},
        mixed_{rw == pattern::randrw},
        slots_{slots},
        next_slot_{first_slot},
        random_{seed} {}

  io_choice next() noexcept {
    const std::uint64_t slot = sequential_ ? advance() : random_.below(slots_);
    return {.slot = slot, .is_write = mixed_ ? (random_.next() & 1U) != 0 : writes_};
  }

 private:
  std::uint64_t advance() noexcept {
    const std::uint64_t slot = next_slot_;
    next_slot_ = slot + 1 == slots_ ? 0 : slot + 1;
    return slot;
  }

  bool sequential_;
  bool writes_;
  bool mixed_;
  std::uint64_t slots_;
  std::uint64_t next_slot_;
  random_stream random_;
};

}  // namespace runnel::perf
