#include "apps/perf/verify.h"

#include <algorithm>
#include <cstring>

#include "mempool/base/check.h"

namespace runnel::perf {
namespace {

/// First bytes of every block; the words after it repeat `filler` plus their position.
struct block_stamp {
  std::uint64_t block;  // number of the block in the namespace
  std::uint64_t seed;
  std::uint32_t sequence;
  std::uint32_t reserved;
  std::uint64_t filler;
};

block_stamp make_stamp(std::uint64_t block, std::uint64_t seed, std::uint32_t sequence) noexcept {
  const std::uint64_t filler = (block * 0x9e3779b97f4a7c15U) ^ (seed << 32U) ^ sequence;
  return {.block = block, .seed = seed, .sequence = sequence, .reserved = 0, .filler = filler};
}

/// The 64-bit word at `index` of a block that begins with `stamp`.
std::uint64_t word_at(const block_stamp& stamp, std::size_t index) noexcept {
  return stamp.filler + index;
}

}  // namespace

verifier::verifier(std::uint64_t first, std::uint64_t count, std::uint32_t block_bytes,
                   std::uint64_t seed)
    : first_{first}, state_(count, 0), block_bytes_{block_bytes}, seed_{seed} {
  CHECK(block_bytes >= sizeof(block_stamp));
  CHECK(count > 0);
}

bool verifier::try_claim(std::uint64_t slot) noexcept {
  std::uint32_t& state = state_of(slot);
  if ((state & claimed_bit) != 0) {
    return false;
  }
  state |= claimed_bit;
  return true;
}

void verifier::release(std::uint64_t slot) noexcept {
  CHECK((state_of(slot) & claimed_bit) != 0);
  state_of(slot) &= ~claimed_bit;
}

void verifier::prepare_write(std::uint64_t slot, std::span<std::byte> data) noexcept {
  fill(slot, (state_of(slot) + 1) & sequence_mask, data);
}

void verifier::acknowledge(std::uint64_t slot) noexcept {
  state_of(slot) = ((state_of(slot) + 1) & sequence_mask) | claimed_bit;
}

void verifier::forget(std::uint64_t slot) noexcept {
  // The sequence moves on: the next write must differ from the one in doubt.
  state_of(slot) = ((state_of(slot) + 1) & sequence_mask) | doubt_bit | claimed_bit;
}

bool verifier::matches(std::uint64_t slot, std::span<const std::byte> data) const noexcept {
  const std::uint32_t sequence = state_[slot - first_] & sequence_mask;
  if (sequence == 0 || (state_[slot - first_] & doubt_bit) != 0) {
    return true;
  }
  const std::uint64_t first_block = slot * (data.size() / block_bytes_);
  for (std::size_t offset = 0; offset < data.size(); offset += block_bytes_) {
    const block_stamp stamp = make_stamp(first_block + (offset / block_bytes_), seed_, sequence);
    if (std::memcmp(&data[offset], &stamp, sizeof stamp) != 0) {
      return false;
    }
    for (std::size_t at = sizeof stamp; at < block_bytes_; at += sizeof(std::uint64_t)) {
      std::uint64_t word = 0;
      std::memcpy(&word, &data[offset + at], sizeof word);
      if (word != word_at(stamp, at / sizeof word)) {
        return false;
      }
    }
  }
  return true;
}

void verifier::fill(std::uint64_t slot, std::uint32_t sequence,
                    std::span<std::byte> data) const noexcept {
  const std::uint64_t first_block = slot * (data.size() / block_bytes_);
  for (std::size_t offset = 0; offset < data.size(); offset += block_bytes_) {
    const block_stamp stamp = make_stamp(first_block + (offset / block_bytes_), seed_, sequence);
    std::memcpy(&data[offset], &stamp, sizeof stamp);
    for (std::size_t at = sizeof stamp; at < block_bytes_; at += sizeof(std::uint64_t)) {
      const std::uint64_t word = word_at(stamp, at / sizeof word);
      std::memcpy(&data[offset + at], &word, sizeof word);
    }
  }
}

}  // namespace runnel::perf
