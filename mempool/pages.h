#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "mempool/base/error.h"
#include "mempool/base/unique_fd.h"
#include "mempool/base/units.h"

namespace runnel {

/// Of a huge page, reserved or transparent.
inline constexpr std::size_t huge_bytes = 2 * mib;
/// Of the next size, which is only ever reserved.
inline constexpr std::size_t giant_bytes = gib;

enum class page_kind : std::uint8_t { normal, huge };

/// Memory as a file that can be handed to another process: a memfd of whole pages, sealed against
/// shrinking (and growing) where the kernel can, so nobody who holds it can make us fault.
struct page_file {
  unique_fd fd;
  std::size_t bytes = 0;
  std::size_t page_bytes = 0;
  page_kind kind = page_kind::normal;
  std::size_t share_bytes = 0;  // from one share to the next; the last ones may be smaller
  bool placed = true;  // the kernel was willing to prefer the nodes; it may still run short
};

/// @param bytes  rounded up to whole pages of the kind that is used
/// @param huge   1 GiB or 2 MiB pages, whichever wastes less of those that are free (sizes from
///               libhugetlbfs), else normal ones: `page_file::page_bytes` tells. All pages are
///               reserved now, none can SIGBUS later
/// @param nodes  the memory comes from these in equal shares, as far as they have any; one that is
///               named more often, in a row, gets more. Empty: from wherever the calling thread
///               gets its memory
/// @error        no_memory, os (memfd, ftruncate, fallocate); the hint names the number to change
/// @context      control thread; system calls
[[nodiscard]] outcome<page_file> allocate_pages(std::size_t bytes, bool huge,
                                                std::span<const numa_node> nodes = {});

/// Whether the kernel has huge pages of this size, free or not.
[[nodiscard]] bool has_huge_pages(std::size_t page_bytes) noexcept;

/// Huge pages of this size that are free now.
[[nodiscard]] std::size_t huge_pages_free(std::size_t page_bytes) noexcept;

/// The node that memory lies on; the caller has written to it. Empty when the kernel does not tell.
[[nodiscard]] std::optional<numa_node> node_of(const std::byte* memory) noexcept;

/// Memory that may be taken without waking the kernel's out-of-memory killer.
[[nodiscard]] std::uint64_t available_memory_bytes();

/// The failure to report when `bytes` of memory could not be had because of `why`.
[[nodiscard]] std::unexpected<failure> memory_shortage(error why, std::size_t bytes);

}  // namespace runnel
