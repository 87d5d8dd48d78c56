#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "mempool/base/error.h"
#include "mempool/base/units.h"
#include "mempool/pages.h"
#include "mempool/region.h"

namespace runnel {

/// Below this windows are put if there is room: so low that also the smallest IOMMUs (39 bits)
/// translate it, and with room above it for the memory of others.
inline constexpr std::uint64_t window_addresses_end = 256 * gib;

struct window_options {
  std::size_t bytes = 64 * mib;    // committed at once
  bool huge = true;                // wish for 1 GiB or 2 MiB pages
  std::vector<numa_node> nodes{};  // sorted; equal shares of it are near to these; empty: wherever
};

/// Region 0: the memory of one engine that its devices may touch. One reserved range of addresses
/// backed by one sealed memfd, mapped MAP_SHARED and MADV_DONTFORK, handed out in pieces at start.
/// A low address is a wish (then IOVA = VA even behind a small IOMMU), not a promise.
///
/// @context control thread; pieces are carved before the reactors run
class window {
 public:
  /// @error os, no_memory: the hint names the limit that was met and the number to change
  [[nodiscard]] static outcome<window> create(const window_options& options);

  window(window&&) noexcept;
  window& operator=(window&&) noexcept;
  window(const window&) = delete;
  window& operator=(const window&) = delete;
  ~window();  // unmaps; no device may reach the memory any more

  /// The whole window as one region; address and length never change while it lives.
  [[nodiscard]] const region& memory() const noexcept { return memory_; }
  [[nodiscard]] page_kind kind() const noexcept { return pages_.kind; }
  [[nodiscard]] std::size_t page_bytes() const noexcept { return pages_.page_bytes; }
  /// Whether the kernel was willing to take the shares from their nodes.
  [[nodiscard]] bool placed() const noexcept { return pages_.placed; }

  /// Has devices see it from that bus address on, for those that no IOMMU translates for.
  /// @return false: it is seen elsewhere, and some of it is in use
  [[nodiscard]] bool place_at(iova first) noexcept;

  /// A zeroed piece. @param alignment power of two, up to the page size of the window
  /// @param near  from the share of this node if there is room, else from any
  /// @error no_memory
  [[nodiscard]] result<std::span<std::byte>> allocate(std::size_t bytes, std::size_t alignment,
                                                      std::optional<numa_node> near = {});

  /// Gives a piece back. Only when no device can reach it any more: its queue is deleted, its
  /// controller disabled, or bus mastering off and read back.
  void release(std::span<std::byte> piece) noexcept;

  /// Gives up a piece that a device may still reach: it is never handed out again, and counted.
  void quarantine(std::span<std::byte> piece) noexcept;
  [[nodiscard]] std::size_t quarantined_bytes() const noexcept { return quarantined_bytes_; }
  [[nodiscard]] std::size_t free_bytes() const noexcept;

 private:
  struct hole {
    std::size_t offset;
    std::size_t bytes;
  };

  struct range {
    std::size_t first;
    std::size_t end;
  };

  window(page_file pages, const region& memory, std::vector<numa_node> nodes);
  [[nodiscard]] range share_of(std::optional<numa_node> node) const noexcept;
  [[nodiscard]] std::byte* carve(std::size_t bytes, std::size_t alignment, range from);

  page_file pages_;
  region memory_;
  std::vector<numa_node> nodes_;  // whose shares they are, sorted
  std::vector<hole> holes_;       // sorted by offset, neighbours merged
  std::size_t quarantined_bytes_ = 0;
};

}  // namespace runnel
