#pragma once

#include <cstddef>
#include <cstdint>
#include <set>
#include <span>
#include <string>
#include <vector>

namespace runnel::sim {

struct checker_options {
  std::uint32_t block_bytes = 512;
  /// What is never torn: a block, or less where a crash may tear blocks.
  std::uint32_t cell_bytes = 512;
  std::uint64_t block_count = 0;
  bool volatile_cache = true;  // else a write that has ended is durable
};

/// Knows what each block of a disk may hold, from what its user was told, and judges what is read.
///
/// A read may return the last write that completed before it, or one that was in flight with it or
/// failed: a write that ended badly may have happened, until a later one has succeeded. After a
/// crash a block holds anything from its last durable value on: durable is what had completed when
/// a flush began that succeeded, and a forced write that succeeded. Every write has content of its
/// own, different in every cell, so a value that is old, foreign, misplaced or torn shows.
///
/// Writes may overlap in time; blocks that two of them share then hold either.
class block_checker {
 public:
  explicit block_checker(const checker_options& options);

  /// One write under way. `zeroes`: it leaves zeros, however many do so.
  struct write {
    std::uint64_t first = 0;
    std::uint32_t blocks = 0;
    std::uint64_t number = 0;  // never 0
    std::uint64_t began = 0;
    bool zeroes = false;
  };
  struct read {
    std::uint64_t first = 0;
    std::uint64_t began = 0;
  };

  [[nodiscard]] write begin_write(std::uint64_t first, std::uint32_t blocks, bool zeroes = false);
  /// What that write carries. @param data  as long as its blocks
  void fill(const write& which, std::span<std::byte> data) const;
  void end_write(const write& which, bool success, bool forced = false);
  /// It did not happen, to the user's certain knowledge.
  void withdraw(const write& which);

  [[nodiscard]] read begin_read(std::uint64_t first);
  void end_read(const read& which, std::span<const std::byte> data);
  /// It ended badly: nothing is known of its memory.
  void drop_read(const read& which);

  /// @return for `end_flush`, if it succeeds
  [[nodiscard]] std::uint64_t begin_flush() { return ++now_; }
  void end_flush(std::uint64_t began);

  /// Power was lost; everything under way is forgotten. Judges what the disk holds now, which is
  /// what it holds from here on. @param content  all blocks
  void recover(std::span<const std::byte> content);

  /// Values that were read and could not be.
  [[nodiscard]] std::uint64_t wrong() const noexcept { return wrong_; }
  /// About the first of them.
  [[nodiscard]] const std::string& first_wrong() const noexcept { return first_wrong_; }

 private:
  static constexpr std::uint64_t never = ~std::uint64_t{0};
  static constexpr std::uint64_t zeros = 0;     // the content, as a number of a write
  static constexpr std::uint64_t torn = never;  // no content of ours

  /// What a cell may hold.
  struct value {
    std::uint64_t number = zeros;  // of the write whose content it is
    std::uint64_t by = 0;          // number of the write that put it there; 0: it was found
    std::uint64_t ended = 0;
    std::uint64_t replaced = never;  // reads that begin later do not see it
    bool buried = false;             // nor does it return after a crash
  };
  using cell = std::vector<value>;

  [[nodiscard]] std::span<cell> cells_of(const write& which);
  [[nodiscard]] std::uint64_t word(std::uint64_t number, std::size_t cell_index,
                                   std::size_t word_index) const noexcept;
  [[nodiscard]] std::uint64_t decode(std::size_t cell_index,
                                     std::span<const std::byte> content) const;
  void judge(std::size_t cell_index, std::uint64_t found, bool legal, const char* when);
  void prune(cell& which) const;

  checker_options options_;
  std::size_t cells_per_block_;
  std::vector<cell> cells_;
  std::multiset<std::uint64_t> reads_;  // when those under way began
  std::uint64_t now_ = 1;
  std::uint64_t last_number_ = 0;
  std::uint64_t wrong_ = 0;
  std::string first_wrong_;
};

}  // namespace runnel::sim
