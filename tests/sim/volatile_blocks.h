#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "apps/perf/workload.h"

namespace runnel::sim {

/// Blocks behind a cache that forgets when power is lost. Copies are independent: one can lose its
/// power while the other goes on.
class volatile_blocks {
 public:
  /// @param content  whole blocks, durable
  volatile_blocks(std::uint32_t block_bytes, std::vector<std::byte> content)
      : block_bytes_{block_bytes},
        medium_{std::move(content)},
        cache_(medium_.size() / block_bytes) {}

  /// What a read sees.
  [[nodiscard]] std::span<const std::byte> block(std::uint64_t which) const noexcept;

  /// @param now  never decreases
  void store(std::uint64_t which, std::vector<std::byte> bytes, std::uint64_t now);
  /// Past the cache, and what was written before is replaced there, too.
  void store_durably(std::uint64_t which, std::span<const std::byte> bytes);
  /// Makes durable what was stored up to `until`, and nothing newer.
  void flush(std::uint64_t until);

  struct loss {
    std::uint64_t dropped = 0;  // blocks whose last write was lost
    std::uint64_t torn = 0;     // blocks that were left in parts
  };
  /// Each sector keeps what is durable, or gets what any one of the volatile writes brought.
  loss lose_power(perf::random_stream& random, std::uint32_t sector_bytes);

  [[nodiscard]] const std::vector<std::byte>& durable() const noexcept { return medium_; }

 private:
  struct write {
    std::uint64_t at = 0;
    std::vector<std::byte> bytes;
  };
  [[nodiscard]] std::span<std::byte> durable_block(std::uint64_t which) noexcept {
    return std::span{medium_}.subspan(which * block_bytes_, block_bytes_);
  }

  std::uint32_t block_bytes_;
  std::vector<std::byte> medium_;
  std::vector<std::vector<write>> cache_;  // by block, oldest first
};

}  // namespace runnel::sim
