#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace runnel::perf {

/// Knows what every slot of a namespace must hold. Each block of a slot carries its own address,
/// the write's sequence number and the run's seed, and the rest of it is derived from these; so a
/// lost, swapped, misplaced or torn write shows.
///
/// One writer or one reader per slot at a time: `try_claim` before the I/O, `release` after it.
/// @context one core; memory is 4 bytes per slot, taken at construction
class verifier {
 public:
  /// For slots [first, first + count) of the namespace.
  verifier(std::uint64_t first, std::uint64_t count, std::uint32_t block_bytes, std::uint64_t seed);

  /// False when an I/O on this slot is under way: choose another.
  [[nodiscard]] bool try_claim(std::uint64_t slot) noexcept;
  void release(std::uint64_t slot) noexcept;

  /// Fills `data` with what the slot's next write carries. @pre claimed
  void prepare_write(std::uint64_t slot, std::span<std::byte> data) noexcept;
  /// The write just prepared was acknowledged: reads must deliver it from now on.
  void acknowledge(std::uint64_t slot) noexcept;
  /// A write that failed may have been executed or not: either content is right until the next one.
  void forget(std::uint64_t slot) noexcept;

  /// True when `data` is what the last acknowledged write of the slot carried.
  [[nodiscard]] bool matches(std::uint64_t slot, std::span<const std::byte> data) const noexcept;

 private:
  static constexpr std::uint32_t claimed_bit = 1U << 31U;
  static constexpr std::uint32_t doubt_bit = 1U << 30U;          // a write failed: nothing is known
  static constexpr std::uint32_t sequence_mask = doubt_bit - 1;  // 0: never written

  void fill(std::uint64_t slot, std::uint32_t sequence, std::span<std::byte> data) const noexcept;

  [[nodiscard]] std::uint32_t& state_of(std::uint64_t slot) noexcept {
    return state_[slot - first_];
  }

  std::uint64_t first_;
  std::vector<std::uint32_t> state_;  // last acknowledged sequence, doubt and claim
  std::uint32_t block_bytes_;
  std::uint64_t seed_;
};

}  // namespace runnel::perf
