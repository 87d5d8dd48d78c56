#include "drivers/vfio_user/free_extents.h"

#include <algorithm>
#include <iterator>

#include "mempool/base/bits.h"
#include "mempool/base/check.h"

namespace runnel::vfio_user {

result<std::uint64_t> free_extents::take(std::uint64_t bytes, std::uint64_t alignment) noexcept {
  CHECK(bytes != 0);
  for (auto part = free_.begin(); part != free_.end(); ++part) {
    const std::uint64_t offset = align_up(part->first, alignment);
    if (offset >= part->end || bytes > part->end - offset) {
      continue;
    }
    const extent before{.first = part->first, .end = offset};
    part->first = offset + bytes;
    if (part->first == part->end) {
      part = free_.erase(part);
    }
    if (before.first != before.end) {
      free_.insert(part, before);
    }
    return offset;
  }
  return fail(errc::no_memory);
}

void free_extents::give_back(std::uint64_t offset, std::uint64_t bytes) noexcept {
  const std::uint64_t end = offset + bytes;
  const auto above = std::ranges::lower_bound(free_, offset, {}, &extent::first);
  CHECK(above == free_.end() || end <= above->first);
  const bool joins_above = above != free_.end() && above->first == end;
  if (above != free_.begin() && std::prev(above)->end == offset) {
    std::prev(above)->end = joins_above ? above->end : end;
    if (joins_above) {
      free_.erase(above);
    }
  } else if (joins_above) {
    above->first = offset;
  } else {
    free_.insert(above, {.first = offset, .end = end});
  }
}

}  // namespace runnel::vfio_user
