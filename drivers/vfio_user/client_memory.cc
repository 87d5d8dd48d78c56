#include "drivers/vfio_user/client_memory.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include <algorithm>
#include <cerrno>
#include <iterator>
#include <span>
#include <utility>

#include "mempool/base/bits.h"
#include "mempool/base/check.h"
#include "mempool/base/checked.h"

namespace runnel::vfio_user {
namespace {

constexpr std::uint64_t normal_page_bytes = 4 * kib;
constexpr std::size_t annex_index = client_memory::slots_max;
static_assert(annex_index < sigbus_guard::ranges_max);

bool same_file(int one, int other) noexcept {
  struct stat a{};
  struct stat b{};
  return ::fstat(one, &a) == 0 && ::fstat(other, &b) == 0 && a.st_dev == b.st_dev &&
         a.st_ino == b.st_ino;
}

}  // namespace

/// A file that we are willing to touch.
struct client_memory::checked_file {
  dev_t device;
  ino_t number;
  int mode;
  std::uint64_t page_bytes;

  /// A file that is too short would fault, one on a disk, a network or a user's own file system
  /// would make us wait for it. @error invalid, unsupported, os
  static result<checked_file> of(int fd, std::uint64_t offset, std::uint64_t bytes) noexcept;
};

result<client_memory::checked_file> client_memory::checked_file::of(int fd, std::uint64_t offset,
                                                                    std::uint64_t bytes) noexcept {
  struct stat status{};
  struct statfs file_system{};
  const int mode = ::fcntl(fd, F_GETFL);
  if (mode < 0 || ::fstat(fd, &status) != 0 || ::fstatfs(fd, &file_system) != 0) {
    return std::unexpected{os_error()};
  }
  const auto magic = static_cast<std::uint64_t>(file_system.f_type);
  if (!S_ISREG(status.st_mode) || (magic != TMPFS_MAGIC && magic != HUGETLBFS_MAGIC)) {
    return fail(errc::unsupported);
  }
  if (!range_within(offset, bytes, static_cast<std::uint64_t>(status.st_size))) {
    return fail(errc::invalid);
  }
  return checked_file{.device = status.st_dev,
                      .number = status.st_ino,
                      .mode = mode & O_ACCMODE,
                      .page_bytes = magic == HUGETLBFS_MAGIC
                                        ? static_cast<std::uint64_t>(file_system.f_bsize)
                                        : normal_page_bytes};
}

result<client_memory> client_memory::create(std::size_t maps, bus_space* bus) {
  auto guard = sigbus_guard::create();
  if (!guard) {
    return std::unexpected{guard.error()};
  }
  return client_memory{std::move(*guard), std::min(maps, maps_max), bus};
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
                      (there.file != nullptr) == static_cast<bool>(fd) &&
                      (!fd || same_file(there.fd, fd.get()));
    return same ? result<const region*>{&there} : fail(errc::busy);
  }
  for (const auto& gone : withdrawn_) {
    if (gone->first <= last && raw(first) <= gone->last) {
      return fail(errc::busy);
    }
  }
  if (maps_.size() + withdrawn_.size() >= limit_) {
    return fail(errc::no_memory);
  }
  auto added = std::make_unique<mapping>();
  added->length = bytes;
  added->permissions = permissions;
  added->fd_offset = fd_offset;
  added->first = raw(first);
  added->last = last;
  added->iova_offset = raw(first);  // until it has an address: at least its iova can be told
  if (fd) {
    const auto file = checked_file::of(fd.get(), fd_offset, bytes);
    if (!file) {
      return std::unexpected{file.error()};
    }
    result<> good = hold_file(*added, std::move(fd), *file);
    if (good) {
      good = place(*added, file->page_bytes);
    }
    if (!good) {
      give_back(*added);
      return std::unexpected{good.error()};
    }
  }
  const region* const memory = added.get();
  maps_.insert(neighbour, {.first = added->first, .last = last, .map = std::move(added)});
  ++generation_;
  return memory;
}

/// Finds the file among those that are open, or keeps this descriptor of it.
result<> client_memory::hold_file(mapping& map, unique_fd fd, const checked_file& known) noexcept {
  auto found = std::ranges::find_if(files_, [&](const auto& file) {
    return file->number == known.number && file->device == known.device && file->mode == known.mode;
  });
  if (found == files_.end()) {
    if (files_.size() == files_max) {
      return fail(errc::os, EMFILE);
    }
    files_.push_back(std::make_unique<shared_file>(shared_file{
        .device = known.device, .number = known.number, .mode = known.mode, .fd = std::move(fd)}));
    found = std::prev(files_.end());
  }
  map.file = found->get();
  map.fd = map.file->fd.get();
  ++map.file->maps;
  return {};
}

/// Finds addresses for a new map and shares the file there.
result<> client_memory::place(mapping& map, std::uint64_t page_bytes) noexcept {
  const std::uint64_t edges = map.first | map.length | map.fd_offset;
  const std::uint64_t slot_number = map.first / address_reserve::bytes;
  if (!is_aligned(edges, normal_page_bytes)) {
    return fail(errc::invalid);
  }
  if (!is_aligned(edges, page_bytes) || map.last / address_reserve::bytes != slot_number) {
    return place_in_annex(map, page_bytes);
  }
  const auto slot_index = slot_of(slot_number);
  if (!slot_index) {
    return std::unexpected{slot_index.error()};
  }
  return place_at(map, *slot_index,
                  {.offset = map.first % address_reserve::bytes,
                   .length = map.length,
                   .fd = map.fd,
                   .fd_offset = map.fd_offset,
                   .permissions = map.permissions});
}

/// For a map that begins or ends inside a huge page, as PC firmware makes below 1 MiB, and for one
/// that is in two slots: its whole pages are mapped somewhere else, each such map for itself.
result<> client_memory::place_in_annex(mapping& map, std::uint64_t page_bytes) noexcept {
  const std::uint64_t file_first = align_down(map.fd_offset, page_bytes);
  const std::uint64_t file_end = align_up(map.fd_offset + map.length, page_bytes);
  const auto offset = annex_space_.take(file_end - file_first, page_bytes);
  if (!offset) {
    return std::unexpected{offset.error()};
  }
  const auto placed = place_at(map, annex_index,
                               {.offset = *offset,
                                .length = file_end - file_first,
                                .fd = map.fd,
                                .fd_offset = file_first,
                                .permissions = map.permissions});
  if (!placed) {
    annex_space_.give_back(*offset, file_end - file_first);
  }
  return placed;
}

result<> client_memory::place_at(mapping& map, std::size_t slot_index,
                                 const address_reserve::placement& what) noexcept {
  slot& home = slots_[slot_index];
  if (home.reserve == nullptr) {
    auto created = address_reserve::create();
    if (!created) {
      return std::unexpected{created.error()};
    }
    home.reserve = std::make_unique<address_reserve>(std::move(*created));
    guard_.cover(slot_index, home.reserve->range());
  }
  const auto placed = home.reserve->place(what);
  if (!placed) {
    return std::unexpected{placed.error()};
  }
  map.address = *placed + (map.fd_offset - what.fd_offset);
  put_on_bus(map);
  map.placed = *placed;
  map.placed_bytes = what.length;
  map.slot = slot_index;
  ++home.maps;
  return {};
}

void client_memory::put_on_bus(mapping& map) noexcept {
  const auto at = bus_ == nullptr ? std::nullopt : bus_->take(map.bytes());
  map.on_bus = at.has_value();
  map.iova_offset = at ? *at - reinterpret_cast<std::uintptr_t>(map.address) : 0;
}

/// The slot of that number, or one that holds nothing any more.
result<std::size_t> client_memory::slot_of(std::uint64_t number) noexcept {
  const std::span slots{slots_.data(), slots_max};
  auto found = std::ranges::find_if(
      slots, [=](const slot& each) { return each.maps != 0 && each.number == number; });
  if (found == slots.end()) {
    found = std::ranges::find(slots, 0U, &slot::maps);
  }
  if (found == slots.end()) {
    return fail(errc::no_memory);
  }
  found->number = number;
  return static_cast<std::size_t>(found - slots.begin());
}

void client_memory::give_back(mapping& map) noexcept {
  if (map.on_bus) {
    bus_->give_back(raw(map.first_iova()), map.bytes());
  }
  if (map.placed_bytes != 0) {
    slot& home = slots_[map.slot];
    home.reserve->clear(map.placed, map.placed_bytes);
    --home.maps;
    if (map.slot == annex_index) {
      annex_space_.give_back(static_cast<std::uint64_t>(map.placed - home.reserve->range().data()),
                             map.placed_bytes);
    }
  }
  if (map.file != nullptr && --map.file->maps == 0) {
    std::erase_if(files_, [&](const auto& file) { return file.get() == map.file; });
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

bool client_memory::unmap_some(std::size_t budget) noexcept {
  for (; budget > 0 && (!withdrawn_.empty() || !maps_.empty()); --budget) {
    if (withdrawn_.empty()) {
      withdraw(*maps_.back().map);
    }
    give_back(*withdrawn_.back());
    withdrawn_.pop_back();
  }
  if (!withdrawn_.empty() || !maps_.empty()) {
    return false;
  }
  for (std::size_t i = 0; i < slots_.size(); ++i) {
    guard_.uncover(i);
  }
  guard_.clear_poison();
  slots_ = {};
  return true;
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
