#include "mempool/sigbus.h"

#include <array>
#include <atomic>
#include <cerrno>
#include <utility>

#include "mempool/base/bits.h"
#include "mempool/base/check.h"
#include "mempool/base/units.h"
#include "mempool/stand_in.h"

namespace runnel {
namespace {

struct range_entry {
  std::atomic<std::uintptr_t> first{0};
  std::atomic<std::uintptr_t> end{0};  // 0: unused; written last, taken back first
};

struct guard_entry {
  std::atomic<bool> taken{false};
  std::atomic<std::byte> filler{};
  std::atomic<bool> poisoned{false};
  std::array<range_entry, sigbus_guard::ranges_max> ranges;
};

// The one table of the process: a signal handler can be given nothing else. Constant-initialised.
constinit std::array<guard_entry, sigbus_guard::guards_max> table;

/// The handler may read an entry while another core recycles it, so it reads `end` twice: an entry
/// that changed in between cannot be the one whose memory we are touching.
bool holds(const range_entry& range, std::uintptr_t address, std::uintptr_t& end) noexcept {
  end = range.end.load(std::memory_order_acquire);  // pairs with the release in cover()
  if (address >= end || address < range.first.load(std::memory_order_acquire)) {
    return false;
  }
  return range.end.load(std::memory_order_relaxed) == end;
}

/// The size of the page of `address` is not known here: normal pages are tried first, and the
/// kernel refuses to cut a huge one.
bool replace_page(std::uintptr_t address, const range_entry& range, std::uintptr_t end,
                  std::byte filler) noexcept {
  for (const std::uint64_t page_bytes : {4 * kib, 2 * mib, 1 * gib}) {
    const std::uintptr_t page = align_down(address, page_bytes);
    if (page < range.first.load(std::memory_order_relaxed) || page + page_bytes > end) {
      return false;
    }
    // NOLINTNEXTLINE(performance-no-int-to-ptr): the kernel gave us the address as a number's worth
    if (put_stand_in({reinterpret_cast<std::byte*>(page), page_bytes}, filler)) {
      return true;
    }
  }
  return false;
}

}  // namespace

bool handle_sigbus(const siginfo_t& info) noexcept {
  if (info.si_code <= 0) {
    return false;  // sent by a process, not by a touch
  }
  const int saved_errno = errno;
  const auto address = reinterpret_cast<std::uintptr_t>(info.si_addr);
  bool repaired = false;
  for (guard_entry& guard : table) {
    for (const range_entry& range : guard.ranges) {
      std::uintptr_t end = 0;
      if (repaired || !holds(range, address, end)) {
        continue;
      }
      const std::byte filler = guard.filler.load(std::memory_order_relaxed);  // older than `end`
      if (replace_page(address, range, end, filler)) {
        guard.poisoned.store(true, std::memory_order_relaxed);  // publishes nothing else
        repaired = true;
      }
    }
  }
  errno = saved_errno;
  return repaired;
}

result<sigbus_guard> sigbus_guard::create(std::byte filler) noexcept {
  for (std::size_t i = 0; i < table.size(); ++i) {
    bool taken = false;
    // Acquire pairs with the release in give_back(): the entry is empty when it is ours.
    if (table[i].taken.compare_exchange_strong(taken, true, std::memory_order_acquire)) {
      sigbus_guard guard{i};
      guard.poisoned_ = &table[i].poisoned;
      table[i].filler.store(filler, std::memory_order_relaxed);  // cover() publishes it
      return guard;
    }
  }
  return fail(errc::no_memory);
}

sigbus_guard::sigbus_guard(sigbus_guard&& other) noexcept
    : entry_{std::exchange(other.entry_, no_entry)}, poisoned_{other.poisoned_} {}

sigbus_guard& sigbus_guard::operator=(sigbus_guard&& other) noexcept {
  if (this != &other) {
    give_back();
    entry_ = std::exchange(other.entry_, no_entry);
    poisoned_ = other.poisoned_;
  }
  return *this;
}

sigbus_guard::~sigbus_guard() {
  give_back();
}

void sigbus_guard::give_back() noexcept {
  if (entry_ == no_entry) {
    return;
  }
  for (std::size_t i = 0; i < ranges_max; ++i) {
    uncover(i);
  }
  clear_poison();
  table[entry_].taken.store(false, std::memory_order_release);  // pairs with create()
  entry_ = no_entry;
}

void sigbus_guard::cover(std::size_t index, std::span<std::byte> range) noexcept {
  CHECK(index < ranges_max && !range.empty());
  range_entry& entry = table[entry_].ranges[index];
  const auto first = reinterpret_cast<std::uintptr_t>(range.data());
  entry.first.store(first, std::memory_order_relaxed);
  entry.end.store(first + range.size(), std::memory_order_release);  // pairs with holds()
}

void sigbus_guard::uncover(std::size_t index) noexcept {
  CHECK(index < ranges_max);
  range_entry& entry = table[entry_].ranges[index];
  entry.end.store(0, std::memory_order_release);
  entry.first.store(0, std::memory_order_relaxed);
}

void sigbus_guard::clear_poison() noexcept {
  table[entry_].poisoned.store(false, std::memory_order_relaxed);
}

}  // namespace runnel
