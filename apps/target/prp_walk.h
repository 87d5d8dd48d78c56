#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "apps/target/guest_memory.h"
#include "drivers/block.h"
#include "drivers/nvme/spec.h"

namespace runnel::target {

inline constexpr std::uint64_t page_bytes = 4096;  // CC.MPS 0, the only page size that we offer

/// Segments that a transfer of `bytes` can need: its pages, and one more when it begins inside one.
[[nodiscard]] constexpr std::size_t segments_for(std::uint64_t bytes) noexcept {
  return static_cast<std::size_t>((bytes + page_bytes - 1) / page_bytes + 1);
}

/// A command's data as its host describes it.
struct prp_transfer {
  std::uint64_t prp1 = 0;
  std::uint64_t prp2 = 0;        // second page, or where the list of pages is
  std::uint64_t bytes = 0;       // at least 1, whole dwords
  access wanted = access::none;  // read: the device takes the data; write: it fills it
};

struct prp_segments {
  nvme::status_code status = nvme::status_code::success;
  std::uint32_t count = 0;
};

/// The general case of `walk_prp`.
[[nodiscard]] prp_segments walk_prp_pages(memory_view& memory, const prp_transfer& transfer,
                                          std::span<segment> out) noexcept;

/// Finds the memory of a transfer. Runs that adjoin become one segment. Entries of a list are
/// copied once each, then judged.
///
/// @param out   at least segments_for(transfer.bytes)
/// @return status prp_offset_invalid (alignment) or data_transfer_error (not the host's memory, or
///         not allowed for this direction)
/// @context  hot path; the work is bounded by the bytes, whatever the list holds
/// @spec NVMe Base 2.0 §4.1.1
[[nodiscard]] inline prp_segments walk_prp(memory_view& memory, const prp_transfer& transfer,
                                           std::span<segment> out) noexcept {
  const std::uint64_t in_page = page_bytes - transfer.prp1 % page_bytes;
  if (transfer.bytes <= in_page && transfer.prp1 % 4 == 0) [[likely]] {
    const memory_run run = memory.find(iova{transfer.prp1}, transfer.bytes, transfer.wanted);
    if (run.address != nullptr && run.bytes == transfer.bytes) [[likely]] {
      out[0] = {run.address, static_cast<std::size_t>(transfer.bytes), run.memory};
      return {nvme::status_code::success, 1};
    }
  }
  return walk_prp_pages(memory, transfer, out);
}

}  // namespace runnel::target
