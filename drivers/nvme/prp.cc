#include "drivers/nvme/prp.h"

#include <algorithm>
#include <bit>

#include "mempool/base/bits.h"
#include "mempool/base/check.h"

namespace runnel::nvme {
void segment_cursor::skip(std::size_t bytes) noexcept {
  offset += bytes;
  while (!rest.empty() && offset >= rest.front().length) {
    offset -= rest.front().length;
    rest = rest.subspan(1);
  }
}

std::size_t prp_list_bytes(const prp_rules& rules) noexcept {
  const std::size_t entries = std::max<std::size_t>(rules.bytes_max / host_page_bytes, 1);
  return std::bit_ceil(entries * sizeof(std::uint64_t));
}

std::uint32_t describe_run(segment_cursor from, const prp_rules& rules, const prp_list& list,
                           prp_pair& out) noexcept {
  std::uint64_t bytes = 0;
  std::uint64_t end = 0;  // bus address after the run so far
  std::size_t list_used = 0;
  while (bytes < rules.bytes_max && !from.rest.empty()) {
    const segment& part = from.rest.front();
    if (part.length == 0) {
      from.skip(0);
      continue;
    }
    CHECK(part.memory != nullptr);
    const std::uint64_t start = raw(part.memory->to_iova(part.address + from.offset));
    const bool continues_page = bytes != 0 && start == end && !is_aligned(start, host_page_bytes);
    if (bytes == 0) {
      if (!is_aligned(start, prp_alignment)) {
        return 0;
      }
      out.first = start;
    } else if (!continues_page) {
      if (!is_aligned(start, host_page_bytes) || !is_aligned(end, host_page_bytes)) {
        break;
      }
      CHECK(list_used < list.entries.size());
      list.entries[list_used++] = start;
    }
    const std::uint64_t taken = std::min({host_page_bytes - (start & (host_page_bytes - 1)),
                                          part.length - from.offset, rules.bytes_max - bytes});
    bytes += taken;
    end = start + taken;
    from.skip(taken);
  }
  bytes = align_down(bytes, rules.block_bytes);
  // Entries beyond what is left after rounding stay in the list unread; only their number decides
  // what the second entry means.
  const std::uint64_t first_offset = out.first & (host_page_bytes - 1);
  const std::uint64_t span_bytes = first_offset + bytes;
  if (span_bytes <= host_page_bytes) {
    out.second = 0;
  } else if (span_bytes <= std::uint64_t{2} * host_page_bytes) {
    out.second = list.entries[0];
  } else {
    out.second = raw(list.address);
  }
  return static_cast<std::uint32_t>(bytes);
}

}  // namespace runnel::nvme
