#include "apps/target/memory_table.h"

#include <algorithm>
#include <iterator>

#include "mempool/base/check.h"

namespace runnel::target {

void memory_table::add(iova first, const region& memory) {
  CHECK(memory.address != nullptr);
  const auto at = std::ranges::lower_bound(rows_, raw(first), {}, &row::first);
  CHECK(at == rows_.end() || at->first != raw(first));
  rows_.insert(at, {raw(first), &memory});
}

void memory_table::remove(const region& memory) noexcept {
  std::erase_if(rows_, [&memory](const row& each) { return each.memory == &memory; });
}

memory_run memory_table::run_at(iova first, access wanted) const noexcept {
  const auto behind = std::ranges::upper_bound(rows_, raw(first), {}, &row::first);
  if (behind == rows_.begin()) {
    return {};
  }
  const row& found = *std::prev(behind);
  const std::uint64_t offset = raw(first) - found.first;
  if (offset >= found.memory->length || !allows(found.memory->permissions, wanted)) {
    return {};
  }
  return {found.memory->address + offset, found.memory->length - offset, found.memory};
}

}  // namespace runnel::target
