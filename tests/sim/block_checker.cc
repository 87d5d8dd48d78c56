#include "tests/sim/block_checker.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "mempool/base/check.h"

namespace runnel::sim {

block_checker::block_checker(const checker_options& options)
    : options_{options},
      cells_per_block_{options.block_bytes / options.cell_bytes},
      cells_(options.block_count * cells_per_block_, cell{value{}}) {
  CHECK(options.block_bytes % options.cell_bytes == 0);
}

std::span<block_checker::cell> block_checker::cells_of(const write& which) {
  return std::span{cells_}.subspan(which.first * cells_per_block_, which.blocks * cells_per_block_);
}

block_checker::write block_checker::begin_write(std::uint64_t first, std::uint32_t blocks,
                                                bool zeroes) {
  const write begun{.first = first,
                    .blocks = blocks,
                    .number = ++last_number_,
                    .began = ++now_,
                    .zeroes = zeroes};
  for (cell& each : cells_of(begun)) {
    each.push_back({.number = zeroes ? zeros : begun.number, .by = begun.number, .ended = never});
  }
  return begun;
}

std::uint64_t block_checker::word(std::uint64_t number, std::size_t cell_index,
                                  std::size_t word_index) const noexcept {
  constexpr std::uint64_t scatter = 0x9e37'79b9'7f4a'7c15;
  return number == zeros ? 0 : (number << 24U | cell_index) ^ (word_index * scatter);
}

void block_checker::fill(const write& which, std::span<std::byte> data) const {
  CHECK(data.size() == std::size_t{which.blocks} * options_.block_bytes);
  const std::uint64_t number = which.zeroes ? zeros : which.number;
  const std::size_t words = options_.cell_bytes / sizeof(std::uint64_t);
  for (std::size_t i = 0; i < data.size() / sizeof(std::uint64_t); ++i) {
    const std::uint64_t now = word(number, which.first * cells_per_block_ + i / words, i % words);
    std::memcpy(data.data() + i * sizeof now, &now, sizeof now);
  }
}

std::uint64_t block_checker::decode(std::size_t cell_index,
                                    std::span<const std::byte> content) const {
  std::uint64_t head = 0;
  std::memcpy(&head, content.data(), sizeof head);
  const std::uint64_t number = head >> 24U;
  for (std::size_t i = 0; i < content.size() / sizeof head; ++i) {
    std::uint64_t found = 0;
    std::memcpy(&found, content.data() + i * sizeof found, sizeof found);
    if (found != word(number, cell_index, i)) {
      return torn;
    }
  }
  return number;
}

void block_checker::end_write(const write& which, bool success, bool forced) {
  ++now_;
  for (cell& each : cells_of(which)) {
    const auto mine = std::ranges::find(each, which.number, &value::by);
    CHECK(mine != each.end());
    mine->ended = now_;
    for (value& other : each) {
      if (success && other.ended < which.began) {
        other.replaced = std::min(other.replaced, now_);
        other.buried |= forced || !options_.volatile_cache;
      }
    }
    prune(each);
  }
}

void block_checker::withdraw(const write& which) {
  for (cell& each : cells_of(which)) {
    std::erase_if(each, [&](const value& one) { return one.by == which.number; });
  }
}

block_checker::read block_checker::begin_read(std::uint64_t first) {
  const read begun{.first = first, .began = ++now_};
  reads_.insert(begun.began);
  return begun;
}

void block_checker::drop_read(const read& which) {
  reads_.erase(reads_.find(which.began));
}

void block_checker::end_read(const read& which, std::span<const std::byte> data) {
  drop_read(which);
  for (std::size_t i = 0; i < data.size() / options_.cell_bytes; ++i) {
    const std::size_t index = which.first * cells_per_block_ + i;
    const std::uint64_t found =
        decode(index, data.subspan(i * options_.cell_bytes, options_.cell_bytes));
    const bool legal = std::ranges::any_of(cells_[index], [&](const value& each) {
      return each.number == found && each.replaced > which.began;
    });
    judge(index, found, legal, "was read");
  }
}

void block_checker::end_flush(std::uint64_t began) {
  for (cell& each : cells_) {
    for (value& one : each) {
      one.buried |= one.replaced < began;
    }
    prune(each);
  }
}

void block_checker::recover(std::span<const std::byte> content) {
  CHECK(content.size() == cells_.size() * options_.cell_bytes);
  reads_.clear();
  for (std::size_t i = 0; i < cells_.size(); ++i) {
    const std::uint64_t found =
        decode(i, content.subspan(i * options_.cell_bytes, options_.cell_bytes));
    const bool legal = std::ranges::any_of(
        cells_[i], [&](const value& each) { return each.number == found && !each.buried; });
    judge(i, found, legal, "was left by a crash");
    cells_[i] = {{.number = found}};
  }
}

void block_checker::judge(std::size_t cell_index, std::uint64_t found, bool legal,
                          const char* when) {
  if (legal) {
    return;
  }
  if (wrong_++ == 0) {
    std::string might;
    for (const value& each : cells_[cell_index]) {
      might += fmt::format(" {}{}{}", each.number, each.replaced == never ? "" : " (replaced)",
                           each.buried ? " (durably)" : "");
    }
    first_wrong_ = fmt::format(
        "block {} part {}: {} {}; it might have been{}", cell_index / cells_per_block_,
        cell_index % cells_per_block_,
        found == torn ? "nothing that was written" : fmt::format("write {}", found), when, might);
  }
}

/// Values that can never be seen again are forgotten.
void block_checker::prune(cell& which) const {
  const std::uint64_t oldest = reads_.empty() ? never : *reads_.begin();
  std::erase_if(which, [&](const value& each) { return each.buried && each.replaced < oldest; });
}

}  // namespace runnel::sim
