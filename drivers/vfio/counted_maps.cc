#include "drivers/vfio/counted_maps.h"

#include <iterator>

#include "mempool/base/checked.h"

namespace runnel::vfio {
namespace {

bool is_same(const region& one, const region& other) noexcept {
  return one.address == other.address && one.length == other.length &&
         one.permissions == other.permissions;
}

}  // namespace

std::size_t counted_maps::add(const region& memory) {
  if (const auto same = find(memory); same != maps_.end()) {
    return ++same->second.users;
  }
  if (overlaps(memory)) {
    return 0;
  }
  maps_.emplace(raw(memory.first_iova()), counted{.memory = memory, .users = 1});
  return 1;
}

std::optional<std::size_t> counted_maps::give_up(const region& memory) noexcept {
  const auto same = find(memory);
  if (same == maps_.end()) {
    return std::nullopt;
  }
  return --same->second.users;
}

bool counted_maps::holds(const region& memory) const noexcept {
  const auto at = maps_.find(raw(memory.first_iova()));
  return at != maps_.end() && at->second.users > 0 && is_same(at->second.memory, memory);
}

counted_maps::table::iterator counted_maps::find(const region& memory) noexcept {
  return holds(memory) ? maps_.find(raw(memory.first_iova())) : maps_.end();
}

bool counted_maps::overlaps(const region& memory) const noexcept {
  const std::uint64_t first = raw(memory.first_iova());
  const auto meets = [&](const table::value_type& other) {
    return ranges_overlap(first, memory.length, other.first, other.second.memory.length);
  };
  const auto next = maps_.lower_bound(first);
  return (next != maps_.end() && meets(*next)) ||
         (next != maps_.begin() && meets(*std::prev(next)));
}

}  // namespace runnel::vfio
