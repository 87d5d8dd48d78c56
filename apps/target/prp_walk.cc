#include "apps/target/prp_walk.h"

#include <algorithm>

#include "drivers/mmio.h"
#include "mempool/base/bits.h"
#include "mempool/base/check.h"

namespace runnel::target {
namespace {

using nvme::status_code;

/// Collects the pages of one transfer.
class segment_list {
 public:
  segment_list(memory_view& memory, access wanted, std::span<segment> out) noexcept
      : memory_{memory}, wanted_{wanted}, out_{out} {}

  /// @return false when the piece is out of reach
  [[nodiscard]] bool append(iova first, std::uint64_t bytes) noexcept {
    const memory_run run = memory_.find(first, bytes, wanted_);
    if (run.address == nullptr || run.bytes < bytes) {
      return false;
    }
    if (count_ != 0) {
      segment& last = out_[count_ - 1];
      if (last.memory == run.memory && last.address + last.length == run.address) {
        last.length += bytes;
        return true;
      }
    }
    CHECK(count_ < out_.size());
    out_[count_++] = {run.address, static_cast<std::size_t>(bytes), run.memory};
    return true;
  }

  [[nodiscard]] std::uint32_t count() const noexcept { return count_; }

 private:
  memory_view& memory_;
  access wanted_;
  std::span<segment> out_;
  std::uint32_t count_ = 0;
};

/// Walks the list at `list` for `remaining` bytes. Every page of the list but the first begins at
/// its first entry and so brings 511 pages of data: a list that leads back to itself ends too.
status_code walk_list(memory_view& memory, iova list, std::uint64_t remaining,
                      segment_list& out) noexcept {
  for (;;) {
    const std::uint64_t to_page_end = page_bytes - raw(list) % page_bytes;
    const std::uint64_t wanted_bytes =
        std::min(to_page_end, 8 * ((remaining + page_bytes - 1) / page_bytes));
    const memory_run page = memory.find(list, wanted_bytes, access::read);
    if (page.address == nullptr || page.bytes < wanted_bytes) {
      return status_code::data_transfer_error;
    }
    for (std::uint64_t offset = 0;; offset += 8) {
      const auto entry = mmio_read<std::uint64_t>(page.address + offset);
      if (!is_aligned(entry, page_bytes)) {
        return status_code::prp_offset_invalid;
      }
      if (remaining > page_bytes && offset + 8 == to_page_end) {
        list = iova{entry};  // the last place of a page that is not the last leads to the next
        break;
      }
      const std::uint64_t bytes = std::min(remaining, page_bytes);
      if (!out.append(iova{entry}, bytes)) {
        return status_code::data_transfer_error;
      }
      remaining -= bytes;
      if (remaining == 0) {
        return status_code::success;
      }
    }
  }
}

status_code walk(memory_view& memory, const prp_transfer& transfer, segment_list& out) noexcept {
  if (!is_aligned(transfer.prp1, 4)) {
    return status_code::prp_offset_invalid;
  }
  const std::uint64_t first_bytes =
      std::min(transfer.bytes, page_bytes - transfer.prp1 % page_bytes);
  if (!out.append(iova{transfer.prp1}, first_bytes)) {
    return status_code::data_transfer_error;
  }
  const std::uint64_t remaining = transfer.bytes - first_bytes;
  if (remaining == 0) {
    return status_code::success;  // PRP2 is reserved and may hold anything
  }
  if (remaining <= page_bytes) {
    if (!is_aligned(transfer.prp2, page_bytes)) {
      return status_code::prp_offset_invalid;
    }
    return out.append(iova{transfer.prp2}, remaining) ? status_code::success
                                                      : status_code::data_transfer_error;
  }
  if (!is_aligned(transfer.prp2, 8)) {
    return status_code::prp_offset_invalid;
  }
  return walk_list(memory, iova{transfer.prp2}, remaining, out);
}

}  // namespace

prp_segments walk_prp_pages(memory_view& memory, const prp_transfer& transfer,
                            std::span<segment> out) noexcept {
  CHECK(transfer.bytes != 0);
  CHECK(out.size() >= segments_for(transfer.bytes));
  segment_list list{memory, transfer.wanted, out};
  const status_code status = walk(memory, transfer, list);
  return {status, status == status_code::success ? list.count() : 0};
}

}  // namespace runnel::target
