#pragma once

#include <cstdint>
#include <vector>

#include "apps/target/guest_memory.h"

namespace runnel::target {

/// Where a host's memory is, for cores other than the one that its maps are made on: that one
/// changes the table while the others stand still, and maps and unmaps as it likes otherwise.
/// Reading it changes nothing, so any number of cores may.
class memory_table final : public guest_memory {
 public:
  /// @param memory  has an address; borrowed until it is removed  @pre nothing begins there
  void add(iova first, const region& memory);
  void remove(const region& memory) noexcept;

  [[nodiscard]] memory_run run_at(iova first, access wanted) const noexcept override;

 private:
  struct row {
    std::uint64_t first;
    const region* memory;
  };
  std::vector<row> rows_;  // sorted, disjoint
};

}  // namespace runnel::target
