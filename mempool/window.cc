#include "mempool/window.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "mempool/base/bits.h"
#include "mempool/base/check.h"
#include "mempool/base/checked.h"
#include "mempool/base/units.h"

namespace runnel {
namespace {

constexpr std::uint64_t low_address_step = 4 * gib;
/// The one place below the shadow that AddressSanitizer leaves to us.
constexpr std::uint64_t lowest_address = gib;

void* map_at(std::uint64_t address, const page_file& pages) noexcept {
  // NOLINTNEXTLINE(performance-no-int-to-ptr): a wish for the kernel, never dereferenced
  void* wanted = reinterpret_cast<void*>(address);
  void* got = mmap(wanted, pages.bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED_NOREPLACE,
                   pages.fd.get(), 0);
  if (got != MAP_FAILED && got != wanted) {  // kernels before 4.17 take the address as a hint
    munmap(got, pages.bytes);
    return MAP_FAILED;
  }
  return got;
}

/// At a low address if one is free, else anywhere.
void* map_pages(const page_file& pages) noexcept {
  for (std::uint64_t at = low_address_step; range_within(at, pages.bytes, window_addresses_end);
       at += low_address_step) {
    void* got = map_at(at, pages);
    if (got != MAP_FAILED) {
      return got;
    }
  }
  void* got = map_at(lowest_address, pages);
  if (got != MAP_FAILED) {
    return got;
  }
  return mmap(nullptr, pages.bytes, PROT_READ | PROT_WRITE, MAP_SHARED, pages.fd.get(), 0);
}

/// Pieces are whole cache lines, so no two owners share one.
std::size_t piece_bytes(std::size_t bytes) noexcept {
  return align_up(bytes, cache_line_bytes);
}

}  // namespace

outcome<window> window::create(const window_options& options) {
  CHECK(std::ranges::is_sorted(options.nodes));
  auto pages = allocate_pages(options.bytes, options.huge, options.nodes);
  if (!pages) {
    return std::unexpected{std::move(pages.error())};
  }
  void* address = map_pages(*pages);
  if (address == MAP_FAILED) {
    return fail(os_error(), "map", std::to_string(pages->bytes / mib) + " MiB of memory",
                "raise the limit on address space (ulimit -v)");
  }
  const region memory{.address = static_cast<std::byte*>(address),
                      .length = pages->bytes,
                      .iova_offset = 0,
                      .permissions = access::read_write,
                      .fd = pages->fd.get(),
                      .fd_offset = 0};
  window made{std::move(*pages), memory, options.nodes};  // from here on it unmaps by itself
  // A child that writes to memory under DMA would be a second owner.
  if (madvise(address, memory.length, MADV_DONTFORK) != 0) {
    return fail(os_error(), "madvise", "the window");
  }
  return made;
}

window::window(page_file pages, const region& memory, std::vector<numa_node> nodes)
    : pages_{std::move(pages)},
      memory_{memory},
      nodes_{std::move(nodes)},
      holes_{{.offset = 0, .bytes = memory.length}} {}

window::window(window&& other) noexcept
    : pages_{std::move(other.pages_)},
      memory_{std::exchange(other.memory_, {})},
      nodes_{std::move(other.nodes_)},
      holes_{std::move(other.holes_)},
      quarantined_bytes_{std::exchange(other.quarantined_bytes_, 0)} {}

window& window::operator=(window&& other) noexcept {
  window taken{std::move(other)};
  std::swap(pages_, taken.pages_);
  std::swap(memory_, taken.memory_);
  std::swap(nodes_, taken.nodes_);
  std::swap(holes_, taken.holes_);
  std::swap(quarantined_bytes_, taken.quarantined_bytes_);
  return *this;
}

window::~window() {
  if (memory_.address != nullptr) {
    munmap(memory_.address, memory_.length);
  }
}

bool window::place_at(iova first) noexcept {
  if (memory_.first_iova() != first && free_bytes() != memory_.length) {
    return false;
  }
  memory_.iova_offset = raw(first) - reinterpret_cast<std::uintptr_t>(memory_.address);
  return true;
}

result<std::span<std::byte>> window::allocate(std::size_t bytes, std::size_t alignment,
                                              std::optional<numa_node> near) {
  CHECK(bytes > 0);
  CHECK(std::has_single_bit(alignment) && alignment <= pages_.page_bytes);
  if (bytes > memory_.length) {
    return fail(errc::no_memory);
  }
  std::byte* piece = carve(bytes, alignment, share_of(near));
  if (piece == nullptr && near) {
    piece = carve(bytes, alignment, share_of({}));
  }
  if (piece == nullptr) {
    return fail(errc::no_memory);
  }
  std::memset(piece, 0, bytes);
  return std::span{piece, bytes};
}

/// All of the window when none of it is near that node.
window::range window::share_of(std::optional<numa_node> node) const noexcept {
  const auto shares = std::ranges::equal_range(nodes_, node.value_or(numa_node{}));
  if (!node || shares.empty()) {
    return {.first = 0, .end = memory_.length};
  }
  const auto offset_of = [this](auto share) {
    const auto index = static_cast<std::size_t>(share - nodes_.begin());
    return std::min(index * pages_.share_bytes, memory_.length);
  };
  return {.first = offset_of(shares.begin()), .end = offset_of(shares.end())};
}

/// First fit.
std::byte* window::carve(std::size_t bytes, std::size_t alignment, range from) {
  const std::size_t wanted = piece_bytes(bytes);
  for (auto at = holes_.begin(); at != holes_.end(); ++at) {
    const std::size_t end = at->offset + at->bytes;
    const std::size_t start =
        align_up(std::max(at->offset, from.first), std::max(alignment, cache_line_bytes));
    if (!range_within(start, wanted, std::min(end, from.end))) {
      continue;
    }
    const hole rest{.offset = start + wanted, .bytes = end - start - wanted};
    at->bytes = start - at->offset;
    if (rest.bytes > 0) {
      at = std::prev(holes_.insert(std::next(at), rest));
    }
    if (at->bytes == 0) {
      holes_.erase(at);
    }
    return memory_.address + start;
  }
  return nullptr;
}

void window::release(std::span<std::byte> piece) noexcept {
  CHECK(!piece.empty() && memory_.contains(piece.data(), piece.size()));
  const auto offset = static_cast<std::size_t>(piece.data() - memory_.address);
  const std::size_t bytes = piece_bytes(piece.size());
  CHECK(is_aligned(offset, cache_line_bytes));
  auto next = std::lower_bound(holes_.begin(), holes_.end(), offset,
                               [](const hole& free, std::size_t at) { return free.offset < at; });
  // A piece that is free already was released twice.
  CHECK(next == holes_.end() || offset + bytes <= next->offset);
  CHECK(next == holes_.begin() || std::prev(next)->offset + std::prev(next)->bytes <= offset);

  next = holes_.insert(next, {.offset = offset, .bytes = bytes});
  const auto merge_with_next = [this](std::vector<hole>::iterator at) {
    const auto after = std::next(at);
    if (after != holes_.end() && at->offset + at->bytes == after->offset) {
      at->bytes += after->bytes;
      holes_.erase(after);
    }
  };
  merge_with_next(next);
  if (next != holes_.begin()) {
    merge_with_next(std::prev(next));
  }
}

void window::quarantine(std::span<std::byte> piece) noexcept {
  CHECK(!piece.empty() && memory_.contains(piece.data(), piece.size()));
  quarantined_bytes_ += piece_bytes(piece.size());
}

std::size_t window::free_bytes() const noexcept {
  std::size_t sum = 0;
  for (const hole& free : holes_) {
    sum += free.bytes;
  }
  return sum;
}

}  // namespace runnel
