#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "drivers/vfio/domain.h"
#include "mempool/base/check.h"
#include "mempool/base/checked.h"
#include "tests/sim/edge_numbers.h"

namespace runnel::sim {

/// What a user may pin, and has pinned.
struct memlock_account {
  std::uint64_t limit = ~std::uint64_t{0};
  std::uint64_t charged = 0;
};

/// Bus addresses and the memory behind them: what an IOMMU translates for the devices attached to
/// it. Its memory is charged while it is mapped.
class address_space {
 public:
  explicit address_space(memlock_account& account) : account_{&account} {}
  address_space(const address_space&) = delete;
  address_space& operator=(const address_space&) = delete;
  ~address_space() { static_cast<void>(unmap(0, ~std::uint64_t{0})); }

  struct mapping {
    std::uint64_t first = 0;
    std::uint64_t length = 0;
    std::byte* memory = nullptr;
    access allowed = access::none;

    [[nodiscard]] std::uint64_t last() const { return first + (length - 1); }
  };

  [[nodiscard]] std::size_t size() const { return mappings_.size(); }
  [[nodiscard]] const std::vector<vfio::iova_range>& ranges() const { return ranges_; }

  /// Whether devices that reach only `narrower` can be attached: all that is mapped lies in it.
  [[nodiscard]] bool fits(const std::vector<vfio::iova_range>& narrower) const {
    return std::ranges::all_of(
        mappings_, [&](const mapping& each) { return inside(narrower, each.first, each.last()); });
  }
  void set_ranges(std::vector<vfio::iova_range> ranges) { ranges_ = std::move(ranges); }

  [[nodiscard]] bool permits(std::uint64_t first, std::uint64_t last) const {
    return inside(ranges_, first, last);
  }
  [[nodiscard]] bool overlaps(std::uint64_t first, std::uint64_t last) const {
    return std::ranges::any_of(
        mappings_, [&](const mapping& each) { return each.first <= last && first <= each.last(); });
  }
  /// @return false when the account has no room
  [[nodiscard]] bool map(const mapping& made) {
    if (made.length > account_->limit - account_->charged) {
      return false;
    }
    account_->charged += made.length;
    mappings_.push_back(made);
    return true;
  }
  /// Unmaps what lies in [first, last]. @return bytes; nothing when a mapping lies across its edge
  [[nodiscard]] std::optional<std::uint64_t> unmap(std::uint64_t first, std::uint64_t last) {
    const auto touched = [&](const mapping& each) {
      return each.first <= last && first <= each.last();
    };
    std::uint64_t bytes = 0;
    for (const mapping& each : mappings_) {
      if (touched(each) && (each.first < first || each.last() > last)) {
        return std::nullopt;
      }
      bytes += touched(each) ? each.length : 0;
    }
    std::erase_if(mappings_, touched);
    CHECK(account_->charged >= bytes);
    account_->charged -= bytes;
    return bytes;
  }

  /// Our address of what a device means, null where it may not.
  [[nodiscard]] std::byte* find(std::uint64_t first, std::uint64_t bytes, access wanted) const {
    for (const mapping& each : mappings_) {
      if (first >= each.first && range_within(first - each.first, bytes, each.length)) {
        return allows(each.allowed, wanted) ? each.memory + (first - each.first) : nullptr;
      }
    }
    return nullptr;
  }

 private:
  [[nodiscard]] static bool inside(const std::vector<vfio::iova_range>& ranges, std::uint64_t first,
                                   std::uint64_t last) {
    return std::ranges::any_of(ranges, [&](const vfio::iova_range& each) {
      return first >= each.first && last <= each.last;
    });
  }

  memlock_account* account_;
  std::vector<mapping> mappings_;
  std::vector<vfio::iova_range> ranges_{vfio::iova_range{}};
};

}  // namespace runnel::sim
