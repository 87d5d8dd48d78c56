#pragma once

#include <sys/types.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "drivers/vfio_user/address_reserve.h"
#include "drivers/vfio_user/bus_space.h"
#include "drivers/vfio_user/free_extents.h"
#include "mempool/base/error.h"
#include "mempool/base/unique_fd.h"
#include "mempool/region.h"
#include "mempool/sigbus.h"

namespace runnel::vfio_user {

/// A piece of client memory as seen by us. Empty address: not reachable.
struct resolved {
  std::byte* address = nullptr;
  const region* memory = nullptr;
};

/// The memory of one client: its DMA maps, each at (one reserved range of our addresses) + iova, so
/// that runs which are contiguous for the client are contiguous for us and translating is one
/// addition. Maps without a descriptor are known but not reachable.
///
/// Regions are ours to hand on: their bus address is from a `bus_space`, or our address, whatever
/// iova the client uses, and they stay where they are until they are released. A region that is not
/// reachable has no address, and its first iova is the client's.
///
/// Every translation is checked against the maps that exist now. Pointers die with the next map or
/// unmap: whoever keeps an iova resolves it again when `generation()` has changed.
///
/// @context one core
class client_memory {
 public:
  static constexpr std::size_t maps_max = 65535;
  /// Runs of 1 TiB of client addresses that may have reachable maps in them at a time.
  static constexpr std::size_t slots_max = 16;
  /// Different files that maps may be of at a time, each kept open once. QEMU has one for each of
  /// its memory backends, SPDK's client one for each huge page.
  static constexpr std::size_t files_max = 256;

  /// @param maps  what this client may have at a time: the kernel counts a process's mappings, up
  ///              to two for each of these, and its own memory is among them
  /// @param bus   where devices see it; outlives this; null: at our addresses
  /// @error no_memory (too many clients in this process)
  [[nodiscard]] static result<client_memory> create(std::size_t maps = maps_max,
                                                    bus_space* bus = nullptr);
  client_memory(client_memory&&) noexcept = default;
  client_memory& operator=(client_memory&&) = delete;
  client_memory(const client_memory&) = delete;
  client_memory& operator=(const client_memory&) = delete;
  ~client_memory() = default;

  /// Mapping again what is mapped already changes nothing and gives the same region.
  /// @param fd  the client's file; invalid: a range that only messages could reach
  /// @return the new region, until `release`, `unmap` or `unmap_some`
  /// @error invalid (size 0, wrap, alignment, file too short), busy (overlap with another map),
  ///        no_memory (too many maps or slots), os (mmap; EMFILE: too many files), unsupported
  ///        (descriptor of a wrong kind: only memfd, /dev/shm and hugetlbfs cannot make us wait)
  [[nodiscard]] result<const region*> map(iova first, std::uint64_t bytes, access permissions,
                                          unique_fd fd, std::uint64_t fd_offset) noexcept;

  /// The highest map that lies wholly inside [first, last]; null when there is none (left).
  [[nodiscard]] const region* find_inside(iova first, iova last) const noexcept;

  /// Some map is partly inside [first, last]: its other part would outlive an unmap.
  [[nodiscard]] bool has_edge_inside_a_map(iova first, iova last) const noexcept;

  /// First half of an unmap: nothing resolves to the region from here on, but it stays mapped for
  /// I/O in flight. @pre `leaving` was found in this memory
  void withdraw(const region& leaving) noexcept;
  /// Second half: the region is gone. @pre it was withdrawn
  void release(const region& leaving) noexcept;

  /// Both halves at once for every map wholly inside the range. @return how many
  std::size_t unmap(iova first, std::uint64_t bytes) noexcept;
  /// Takes out that many maps at most, whichever; also those that were withdrawn only. @pre nothing
  /// uses them. @return true when all is forgotten, as before the first client
  [[nodiscard]] bool unmap_some(std::size_t budget) noexcept;

  /// Where [first, first + bytes) is; it may span maps that adjoin in iova, as long as all are
  /// reachable and allow `wanted`. `memory` is the region that holds the first byte.
  /// @return empty when any byte is not mapped, or `bytes` is 0
  [[nodiscard]] resolved resolve(iova first, std::uint64_t bytes, access wanted) const noexcept {
    const std::uint64_t offset = raw(first) - last_hit_.first;
    if (offset < last_hit_.bytes && bytes - 1 < last_hit_.bytes - offset &&
        allows(last_hit_.permissions, wanted) && !poisoned()) [[likely]] {
      return {last_hit_.address + offset, last_hit_.memory};
    }
    return resolve_slow(raw(first), bytes, wanted);
  }

  /// Like `resolve` but may be cut short: at most the run inside one region. For segments of I/O.
  /// @param bytes in: wanted, > 0; out: how many of them are there
  [[nodiscard]] resolved resolve_run(iova first, std::uint64_t& bytes,
                                     access wanted) const noexcept {
    const resolved start = resolve(first, 1, wanted);
    if (start.address == nullptr) {
      bytes = 0;
      return {};
    }
    const std::uint64_t left = last_hit_.bytes - (raw(first) - last_hit_.first);
    bytes = bytes < left ? bytes : left;
    return start;
  }

  /// Where the client has it. @pre a map of some client
  [[nodiscard]] static iova first_of(const region& memory) noexcept {
    return iova{static_cast<const mapping&>(memory).first};
  }

  [[nodiscard]] std::uint64_t generation() const noexcept { return generation_; }
  [[nodiscard]] std::size_t map_count() const noexcept { return maps_.size(); }
  /// True when the client shrank a file under us and a touch faulted: end this client. Nothing
  /// resolves any more.
  [[nodiscard]] bool poisoned() const noexcept { return guard_.poisoned(); }

 private:
  /// A file of the client, kept open once however many maps are of it.
  struct shared_file {
    dev_t device = 0;
    ino_t number = 0;
    int mode = 0;  // O_RDONLY or O_RDWR: what may be mapped differs
    unique_fd fd;
    std::size_t maps = 0;
  };
  struct checked_file;

  /// One DMA map. The regions that callers see are the first parts of these.
  struct mapping : region {
    std::uint64_t first = 0;  // iova of the client
    std::uint64_t last = 0;   // iova of the last byte
    shared_file* file = nullptr;
    std::byte* placed = nullptr;     // what `clear` takes back, in whole pages of the file
    std::uint64_t placed_bytes = 0;  // 0: not reachable
    std::size_t slot = 0;
    bool on_bus = false;  // its first iova is from the bus space

    [[nodiscard]] std::span<const std::byte> bytes() const noexcept { return {address, length}; }
  };
  struct table_row {
    std::uint64_t first;
    std::uint64_t last;
    std::unique_ptr<mapping> map;
  };
  struct slot {
    std::uint64_t number = 0;  // iova / address_reserve::bytes
    std::unique_ptr<address_reserve> reserve;
    std::size_t maps = 0;  // 0: may become another number
  };
  struct hit {
    std::uint64_t first = 0;
    std::uint64_t bytes = 0;
    std::byte* address = nullptr;
    const region* memory = nullptr;
    access permissions = access::none;
  };
  using rows = std::vector<table_row>;

  client_memory(sigbus_guard guard, std::size_t maps, bus_space* bus) noexcept
      : limit_{maps}, bus_{bus}, guard_{std::move(guard)} {}

  [[nodiscard]] rows::const_iterator row_at_or_after(std::uint64_t address) const noexcept;
  [[nodiscard]] rows::const_iterator row_of(const region& memory) const noexcept;
  [[nodiscard]] resolved resolve_slow(std::uint64_t first, std::uint64_t bytes,
                                      access wanted) const noexcept;
  [[nodiscard]] result<> hold_file(mapping& map, unique_fd fd, const checked_file& known) noexcept;
  [[nodiscard]] result<> place(mapping& map, std::uint64_t page_bytes) noexcept;
  [[nodiscard]] result<> place_in_annex(mapping& map, std::uint64_t page_bytes) noexcept;
  [[nodiscard]] result<> place_at(mapping& map, std::size_t slot_index,
                                  const address_reserve::placement& what) noexcept;
  void put_on_bus(mapping& map) noexcept;
  [[nodiscard]] result<std::size_t> slot_of(std::uint64_t number) noexcept;
  void give_back(mapping& map) noexcept;

  mutable hit last_hit_;
  std::size_t limit_;
  bus_space* bus_;
  rows maps_;  // sorted, disjoint
  std::vector<std::unique_ptr<mapping>> withdrawn_;
  std::vector<std::unique_ptr<shared_file>> files_;  // those with maps
  // The last is the annex, for what cannot be at (slot + iova): parts of huge pages, maps that
  // cross the end of a slot.
  std::array<slot, slots_max + 1> slots_;
  free_extents annex_space_{address_reserve::bytes};
  std::uint64_t generation_ = 0;
  // Range number = slot index. Declared last: it must forget the addresses before they are given
  // back.
  sigbus_guard guard_;
};

}  // namespace runnel::vfio_user
