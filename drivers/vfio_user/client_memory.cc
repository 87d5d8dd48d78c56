#include "drivers/vfio_user/client_memory.h"

#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include <algorithm>
#include <iterator>
#include <utility>

#include "mempool/base/bits.h"
#include "mempool/base/check.h"
#include "mempool/base/checked.h"

namespace runnel::vfio_user {
namespace {

constexpr std::uint64_t normal_page_bytes = 4 * kib;
constexpr std::size_t annex_index = client_memory::slots_max;
static_assert(annex_index < sigbus_guard::ranges_max);

/// Page size of a file that we are willing to touch. A file that is too short would fault, one on
/// a disk, a network or a user's own file system would make us wait for it.
/// @error invalid, unsupported, os
result<std::uint64_t> check_file(int fd, std::uint64_t offset, std::uint64_t bytes) noexcept {
  struct stat status{};
  struct statfs file_system{};
  if (::fstat(fd, &status) != 0 || ::fstatfs(fd, &file_system) != 0) {
    return std::unexpected{os_error()};
  }
  const auto magic = static_cast<std::uint64_t>(file_system.f_type);
  if (!S_ISREG(status.st_mode) || (magic != TMPFS_MAGIC && magic != HUGETLBFS_MAGIC)) {
    return fail(errc::unsupported);
  }
  if (!range_within(offset, bytes, static_cast<std::uint64_t>(status.st_size))) {
    return fail(errc::invalid);
  }
  return magic == HUGETLBFS_MAGIC ? static_cast<std::uint64_t>(file_system.f_bsize)
                                  : normal_page_bytes;
}

bool same_file(int one, int other) noexcept {
  struct stat a{};
  struct stat b{};
  return ::fstat(one, &a) == 0 && ::fstat(other, &b) == 0 && a.st_dev == b.st_dev &&
         a.st_ino == b.st_ino;
}

}  // namespace

result<client_memory> client_memory::create() {
  auto guard = sigbus_guard::create();
  if (!guard) {
    return std::unexpected{guard.error()};
  }
  return client_memory{std::move(*guard)};
}

result<const region*> client_memory::map(iova first, std::uint64_t bytes, access permissions,
                                         unique_fd fd, std::uint64_t fd_offset) noexcept {
  if (bytes == 0 || !checked_add(raw(first), bytes - 1)) {
    return fail(errc::invalid);
  }
  const std::uint64_t last = raw(first) + (bytes - 1);
  const auto neighbour = row_at_or_after(raw(first));
  if (neighbour != maps_.end() && neighbour->first <= last) {
    const mapping& there = *neighbour->map;
    const bool same = there.first == raw(first) && there.last == last &&
                      there.permissions == permissions && there.fd_offset == fd_offset &&
                      static_cast<bool>(there.file) == static_cast<bool>(fd) &&
                      (!fd || same_file(there.file.get(), fd.get()));
    return same ? result<const region*>{&there} : fail(errc::busy);
  }
  for (const auto& gone : withdrawn_) {
    if (gone->first <= last && raw(first) <= gone->last) {
      return fail(errc::busy);
    }
  }
  if (maps_.size() == maps_max) {
    return fail(errc::no_memory);
  }
  auto added = std::make_unique<mapping>();
  added->length = bytes;
  added->permissions = permissions;
  added->fd_offset = fd_offset;
  added->first = raw(first);
  added->last = last;
  added->file = std::move(fd);
  added->fd = added->file.get();
  const auto placed = place(*added);
  if (!placed) {
    return std::unexpected{placed.error()};
  }
  const region* const memory = added.get();
  maps_.insert(neighbour, {.first = added->first, .last = last, .map = std::move(added)});
  ++generation_;
  return memory;
}

/// Finds addresses for a new map and shares the file there.
result<> client_memory::place(mapping& map) noexcept {
  if (!map.file) {
    map.iova_offset = map.first;  // has no address: at least its iova can be told
    return {};
  }
  const auto page_bytes = check_file(map.fd, map.fd_offset, map.length);
  if (!page_bytes) {
    return std::unexpected{page_bytes.error()};
  }
  const std::uint64_t edges = map.first | map.length | map.fd_offset;
  const std::uint64_t slot_number = map.first / address_reserve::bytes;
  if (!is_aligned(edges, normal_page_bytes)) {
    return fail(errc::invalid);
  }
  if (!is_aligned(edges, *page_bytes) || map.last / address_reserve::bytes != slot_number) {
    return place_in_annex(map, *page_bytes);
  }
  const auto reserve = reserve_of(slot_number);
  if (!reserve) {
    return std::unexpected{reserve.error()};
  }
  const auto placed = (*reserve)->place({.offset = map.first % address_reserve::bytes,
                                         .length = map.length,
                                         .fd = map.fd,
                                         .fd_offset = map.fd_offset,
                                         .permissions = map.permissions});
  if (!placed) {
    return std::unexpected{placed.error()};
  }
  map.address = *placed;
  map.placed = *placed;
  map.placed_bytes = map.length;
  map.reserve = *reserve;
  return {};
}

/// For a map that begins or ends inside a huge page, as PC firmware makes below 1 MiB, and for one
/// that is in two slots: its whole pages are mapped somewhere else, each such map for itself.
result<> client_memory::place_in_annex(mapping& map, std::uint64_t page_bytes) noexcept {
  if (annex_ == nullptr) {
    auto created = address_reserve::create();
    if (!created) {
      return std::unexpected{created.error()};
    }
    annex_ = std::make_unique<address_reserve>(std::move(*created));
    guard_.cover(annex_index, annex_->range());
  }
  const std::uint64_t file_first = align_down(map.fd_offset, page_bytes);
  const std::uint64_t file_end = align_up(map.fd_offset + map.length, page_bytes);
  const auto offset = take_from_annex(file_end - file_first);
  if (!offset) {
    return std::unexpected{offset.error()};
  }
  const auto placed = annex_->place({.offset = *offset,
                                     .length = file_end - file_first,
                                     .fd = map.fd,
                                     .fd_offset = file_first,
                                     .permissions = map.permissions});
  if (!placed) {
    annex_holes_.push_back({.offset = *offset, .length = file_end - file_first});
    return std::unexpected{placed.error()};
  }
  map.address = *placed + (map.fd_offset - file_first);
  map.placed = *placed;
  map.placed_bytes = file_end - file_first;
  map.reserve = annex_.get();
  return {};
}

result<std::uint64_t> client_memory::take_from_annex(std::uint64_t bytes) noexcept {
  const auto fits = std::ranges::find(annex_holes_, bytes, &extent::length);
  if (fits != annex_holes_.end()) {
    const std::uint64_t offset = fits->offset;
    *fits = annex_holes_.back();
    annex_holes_.pop_back();
    return offset;
  }
  // Lengths are whole huge pages, but of one size or another: start on the largest.
  const std::uint64_t offset = align_up(annex_end_, bytes % gib == 0 ? gib : 2 * mib);
  if (!range_within(offset, bytes, address_reserve::bytes)) {
    return fail(errc::no_memory);
  }
  annex_end_ = offset + bytes;
  return offset;
}

result<address_reserve*> client_memory::reserve_of(std::uint64_t slot_number) noexcept {
  for (std::size_t i = 0; i < slots_max; ++i) {
    slot& candidate = slots_[i];
    if (candidate.reserve == nullptr) {
      auto created = address_reserve::create();
      if (!created) {
        return std::unexpected{created.error()};
      }
      candidate.number = slot_number;
      candidate.reserve = std::make_unique<address_reserve>(std::move(*created));
      guard_.cover(i, candidate.reserve->range());
    }
    if (candidate.number == slot_number) {
      return candidate.reserve.get();
    }
  }
  return fail(errc::no_memory);
}

void client_memory::give_back(mapping& map) noexcept {
  if (map.placed_bytes == 0) {
    return;
  }
  map.reserve->clear(map.placed, map.placed_bytes);
  if (map.reserve == annex_.get()) {
    annex_holes_.push_back(
        {.offset = static_cast<std::uint64_t>(map.placed - annex_->range().data()),
         .length = map.placed_bytes});
  }
}

const region* client_memory::find_inside(iova first, iova last) const noexcept {
  // The highest one, so that taking them out one by one moves little of the table.
  const auto beyond = std::ranges::upper_bound(maps_, raw(last), {}, &table_row::last);
  if (beyond == maps_.begin()) {
    return nullptr;
  }
  const table_row& row = *std::prev(beyond);
  return row.first >= raw(first) ? row.map.get() : nullptr;
}

bool client_memory::has_edge_inside_a_map(iova first, iova last) const noexcept {
  const auto low = row_at_or_after(raw(first));
  const auto high = row_at_or_after(raw(last));
  return (low != maps_.end() && low->first < raw(first)) ||
         (high != maps_.end() && high->first <= raw(last) && high->last > raw(last));
}

void client_memory::withdraw(const region& leaving) noexcept {
  const auto row = maps_.begin() + (row_of(leaving) - maps_.cbegin());
  last_hit_ = {};
  ++generation_;
  withdrawn_.push_back(std::move(row->map));
  maps_.erase(row);
}

void client_memory::release(const region& leaving) noexcept {
  const auto found = std::ranges::find_if(withdrawn_, [&](const auto& map) {
    return static_cast<const region*>(map.get()) == &leaving;
  });
  CHECK(found != withdrawn_.end());
  give_back(**found);
  withdrawn_.erase(found);
}

std::size_t client_memory::unmap(iova first, std::uint64_t bytes) noexcept {
  CHECK(bytes != 0);
  const iova last = first + (bytes - 1);
  std::size_t count = 0;
  while (const region* const leaving = find_inside(first, last)) {
    withdraw(*leaving);
    release(*leaving);
    ++count;
  }
  return count;
}

void client_memory::unmap_all() noexcept {
  last_hit_ = {};
  ++generation_;
  maps_.clear();
  withdrawn_.clear();
  for (std::size_t i = 0; i <= annex_index; ++i) {
    guard_.uncover(i);
  }
  guard_.clear_poison();
  slots_ = {};
  annex_.reset();
  annex_holes_.clear();
  annex_end_ = 0;
}

/// The first map that ends at `address` or later.
client_memory::rows::const_iterator client_memory::row_at_or_after(
    std::uint64_t address) const noexcept {
  return std::ranges::lower_bound(maps_, address, {}, &table_row::last);
}

client_memory::rows::const_iterator client_memory::row_of(const region& memory) const noexcept {
  const auto row = row_at_or_after(static_cast<const mapping&>(memory).first);
  CHECK(row != maps_.end());
  CHECK(row->map.get() == &memory);
  return row;
}

resolved client_memory::resolve_slow(std::uint64_t first, std::uint64_t bytes,
                                     access wanted) const noexcept {
  if (bytes == 0 || !checked_add(first, bytes - 1) || poisoned()) {
    return {};
  }
  const std::uint64_t last = first + (bytes - 1);
  const auto begin = row_at_or_after(first);
  if (begin == maps_.end() || begin->first > first || begin->map->address == nullptr ||
      !allows(begin->map->permissions, wanted)) {
    return {};
  }
  // The maps behind it must follow without a gap, for the client and for us.
  for (auto row = begin; row->last < last;) {
    const mapping& map = *row->map;
    ++row;
    if (row == maps_.end() || row->first != map.last + 1 ||
        row->map->address != map.address + map.length || !allows(row->map->permissions, wanted)) {
      return {};
    }
  }
  const mapping& map = *begin->map;
  last_hit_ = {.first = map.first,
               .bytes = map.length,
               .address = map.address,
               .memory = &map,
               .permissions = map.permissions};
  return {map.address + (first - map.first), &map};
}

}  // namespace runnel::vfio_user
