#include "tests/sim/volatile_blocks.h"

#include <algorithm>
#include <iterator>
#include <set>

namespace runnel::sim {

std::span<const std::byte> volatile_blocks::block(std::uint64_t which) const noexcept {
  return cache_[which].empty() ? std::span{medium_}.subspan(which * block_bytes_, block_bytes_)
                               : std::span{cache_[which].back().bytes};
}

void volatile_blocks::store(std::uint64_t which, std::vector<std::byte> bytes, std::uint64_t now) {
  cache_[which].push_back({.at = now, .bytes = std::move(bytes)});
}

void volatile_blocks::store_durably(std::uint64_t which, std::span<const std::byte> bytes) {
  std::ranges::copy(bytes, durable_block(which).begin());
  cache_[which].clear();
}

void volatile_blocks::flush(std::uint64_t until) {
  for (std::uint64_t which = 0; which < cache_.size(); ++which) {
    std::vector<write>& writes = cache_[which];
    const auto newer =
        std::ranges::find_if(writes, [until](const write& each) { return each.at > until; });
    if (newer != writes.begin()) {
      std::ranges::copy(std::prev(newer)->bytes, durable_block(which).begin());
      writes.erase(writes.begin(), newer);
    }
  }
}

volatile_blocks::loss volatile_blocks::lose_power(perf::random_stream& random,
                                                  std::uint32_t sector_bytes) {
  loss lost;
  for (std::uint64_t which = 0; which < cache_.size(); ++which) {
    const std::vector<write> writes = std::exchange(cache_[which], {});
    std::set<std::uint64_t> kept;
    for (std::uint32_t at = 0; at < block_bytes_ && !writes.empty(); at += sector_bytes) {
      const std::uint64_t one = random.below(writes.size() + 1);
      if (one != writes.size()) {
        std::copy_n(writes[one].bytes.begin() + at, sector_bytes,
                    durable_block(which).begin() + at);
      }
      kept.insert(one);
    }
    lost.torn += kept.size() > 1 ? 1U : 0U;
    lost.dropped += kept.size() == 1 && *kept.begin() + 1 != writes.size() ? 1U : 0U;
  }
  return lost;
}

}  // namespace runnel::sim
