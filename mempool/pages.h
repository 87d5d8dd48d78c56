#pragma once

#include <cstddef>
#include <cstdint>

#include "mempool/base/error.h"
#include "mempool/base/unique_fd.h"
#include "mempool/base/units.h"

namespace runnel {

/// Of a huge page, reserved or transparent.
inline constexpr std::size_t huge_bytes = 2 * mib;

enum class page_kind : std::uint8_t { normal, huge };

/// Memory as a file that can be handed to another process: a memfd of whole pages, sealed against
/// shrinking (and growing) where the kernel can, so nobody who holds it can make us fault.
struct page_file {
  unique_fd fd;
  std::size_t bytes = 0;
  std::size_t page_bytes = 0;
  page_kind kind = page_kind::normal;
};

/// @param bytes  rounded up to whole pages of the kind that is used
/// @param huge   2 MiB pages when true and available (size from libhugetlbfs), else normal ones;
///               `page_file::kind` tells which. All pages are reserved now, none can SIGBUS later
/// @error        no_memory, os (memfd, ftruncate, fallocate); the hint names the number to change
/// @context      control thread; system calls
[[nodiscard]] outcome<page_file> allocate_pages(std::size_t bytes, bool huge);

/// Bytes of one 2 MiB-class huge page here, 0 when the kernel has none.
[[nodiscard]] std::size_t huge_page_bytes() noexcept;

/// Huge pages of that size that are free now.
[[nodiscard]] std::size_t huge_pages_free() noexcept;

/// Memory that may be taken without waking the kernel's out-of-memory killer.
[[nodiscard]] std::uint64_t available_memory_bytes();

/// The failure to report when `bytes` of memory could not be had because of `why`.
[[nodiscard]] std::unexpected<failure> memory_shortage(error why, std::size_t bytes);

}  // namespace runnel
