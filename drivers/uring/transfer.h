#pragma once

#include <fcntl.h>
#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "drivers/block.h"
#include "drivers/uring/opened_file.h"
#include "mempool/base/units.h"

namespace runnel::uring {

inline constexpr std::uint32_t transfer_bytes_max = mib;
/// A transfer of whole 4 KiB pages that begins inside one.
inline constexpr std::uint32_t segments_max = transfer_bytes_max / 4096 + 1;
inline constexpr std::size_t page_bytes = 4096;

// Ways to make bytes zero without sending any.
inline constexpr int hole_mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
inline constexpr int zero_mode = FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE;

struct free_deleter {
  void operator()(std::byte* memory) const noexcept;
};
/// Untouched memory that begins with a page.
using aligned_memory = std::unique_ptr<std::byte[], free_deleter>;
[[nodiscard]] aligned_memory allocate_aligned(std::size_t bytes);

/// One request on its way: what is left of it. The kernel may do it in several parts.
struct transfer {
  std::uint64_t tag = 0;
  std::uint64_t position = 0;  // where in the file the rest begins
  std::uint64_t bytes_left = 0;
  std::span<iovec> vectors;     // where in memory the rest is; adjoining segments are one
  std::byte* bounce = nullptr;  // set: the bytes pass through here, `vectors` is the whole request
  std::uint64_t bounce_done = 0;
  block_op op = block_op::read;
  bool durable = false;          // what it changes is on the medium before it completes
  bool other_zero_mode = false;  // the file refused the one that suits the operation
  std::uint8_t attempts = 0;     // without any progress

  /// The memory of the rest, for the kernel; of `verify`, as much as fits. Lives as long as the
  /// transfer is unchanged. @pre it is done by reading or writing
  [[nodiscard]] std::span<const iovec> memory() noexcept;

  /// How to make the blocks zero; both ways do it, each where the other may be refused.
  /// @pre write_zeroes or deallocate
  [[nodiscard]] int zero_mode_now() const noexcept {
    return (op == block_op::deallocate) != other_zero_mode ? hole_mode : zero_mode;
  }

  /// Takes the kernel's answer: bytes done, or minus errno. Of zeroes that are to be durable the
  /// rest is a flush: there is no way to make them that is.
  /// @return how the request ended; empty: submit the rest
  [[nodiscard]] std::optional<block_status> advance(std::int64_t answer,
                                                    std::uint32_t block_bytes) noexcept;

 private:
  [[nodiscard]] bool is_zeroing() const noexcept {
    return op == block_op::write_zeroes || op == block_op::deallocate;
  }
  [[nodiscard]] std::optional<block_status> advance_failed(int errno_value) noexcept;
  void skip(std::uint64_t bytes) noexcept;
  iovec through_bounce_{};
};

/// The requests of one queue that are in flight, with all the memory they need.
///
/// O_DIRECT wants aligned memory, but a guest's segments may begin anywhere. Those pass through
/// bounce memory of the queue, and so does what is compared or verified. A second descriptor
/// through the page cache would need no copy, and would lose data: the cache works in pages, so
/// writing one block there can write an old neighbour back over a direct write.
class transfer_table {
 public:
  transfer_table(const opened_file& file, std::uint32_t depth);

  /// @return null when all places, or all the bounce memory this needs, are taken
  [[nodiscard]] transfer* begin(const block_request& request) noexcept;

  /// The place of a transfer that ended is free again; what was read is where it was wanted.
  /// @return how the request ended: as its transfer, or by a difference that was found
  [[nodiscard]] block_status end(transfer& ended, block_status status) noexcept;

  /// Never frees the bounce memory, for the kernel may still write there. Nothing begins after it.
  void leave_bounce_memory() noexcept { (void)bounce_memory_.release(); }

  [[nodiscard]] std::uint32_t depth() const noexcept {
    return static_cast<std::uint32_t>(transfers_.size());
  }
  [[nodiscard]] std::size_t in_flight() const noexcept { return transfers_.size() - free_.size(); }
  /// What passed through bounce memory.
  [[nodiscard]] std::uint64_t bytes_copied() const noexcept { return bytes_copied_; }

 private:
  static constexpr std::size_t bounces_max = 4;

  [[nodiscard]] bool needs_bounce(block_op op, std::span<const iovec> vectors) const noexcept;

  std::uint32_t block_bytes_;
  bool direct_;
  std::uint32_t memory_alignment_;
  std::uint32_t length_alignment_;
  std::vector<transfer> transfers_;
  std::unique_ptr<iovec[]> vectors_;  // segments_max for each transfer
  std::vector<transfer*> free_;
  aligned_memory bounce_memory_;
  std::vector<std::byte*> free_bounces_;
  std::uint64_t bytes_copied_ = 0;
};

}  // namespace runnel::uring
