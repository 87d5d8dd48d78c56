#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "drivers/block.h"
#include "mempool/base/units.h"

// Physical region pages: how a command names its memory. The first entry may start anywhere in a
// page (4-byte aligned), every other entry is a whole page; beyond two, entries 1.. are in a list.
// @spec NVMe Base 2.0 §4.1.1
namespace runnel::nvme {

inline constexpr std::uint32_t host_page_bytes = 4096;  // CC.MPS; the only size we drive
inline constexpr std::uint32_t prp_alignment = 4;       // of the first entry

/// Sizes that stay the same for all commands of a queue.
struct prp_rules {
  std::uint32_t block_bytes = 512;  // power of two
  std::uint32_t bytes_max = 0;      // largest command (MDTS), whole blocks
};

/// Memory for the list of one command. Lies inside one page, so a list never chains.
struct prp_list {
  std::span<std::uint64_t> entries;  // at least bytes_max / host_page_bytes
  iova address{};
};

/// The two entries of a command.
struct prp_pair {
  std::uint64_t first = 0;
  std::uint64_t second = 0;  // the second page, the list, or 0
};

/// A place in a list of segments.
struct segment_cursor {
  std::span<const segment> rest;
  std::size_t offset = 0;  // in rest[0]

  /// @pre that many bytes are left
  void skip(std::size_t bytes) noexcept;
};

/// Describes the longest run of whole blocks from `from` that one command can carry. The run ends
/// where `bytes_max` is reached or where memory is not page-contiguous: the caller starts the next
/// command there.
/// @return its bytes; 0: not even one block can be described (a block that straddles memory which
///         does not meet on a page boundary, or an address that is not 4-byte aligned)
[[nodiscard]] std::uint32_t describe_run(segment_cursor from, const prp_rules& rules,
                                         const prp_list& list, prp_pair& out) noexcept;

/// Bytes of list memory a command needs: a power of two, so that lists laid side by side from a
/// page boundary never cross one.
[[nodiscard]] std::size_t prp_list_bytes(const prp_rules& rules) noexcept;

}  // namespace runnel::nvme
