#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>

#include "mempool/region.h"

namespace runnel::vfio {

/// Regions that are mapped for several devices, each as often as one asked for it.
/// @context one thread; `add` allocates
class counted_maps {
 public:
  /// @return how often it is asked for now; 0: refused, since part of it is in another region
  [[nodiscard]] std::size_t add(const region& memory);
  /// One asks for it no more. What nobody asks for stays in the way of others until it is erased.
  /// @return how often it is still asked for; empty: no such region is here
  [[nodiscard]] std::optional<std::size_t> give_up(const region& memory) noexcept;
  void erase(const region& memory) noexcept { maps_.erase(raw(memory.first_iova())); }
  /// Whether somebody asks for it.
  [[nodiscard]] bool holds(const region& memory) const noexcept;
  void clear() noexcept { maps_.clear(); }
  [[nodiscard]] std::size_t size() const noexcept { return maps_.size(); }

 private:
  struct counted {
    region memory;
    std::size_t users;
  };
  using table = std::map<std::uint64_t, counted>;

  [[nodiscard]] table::iterator find(const region& memory) noexcept;
  [[nodiscard]] bool overlaps(const region& memory) const noexcept;

  table maps_;  // by bus address, disjoint
};

}  // namespace runnel::vfio
