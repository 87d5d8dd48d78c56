#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "drivers/block.h"
#include "drivers/vfio/transport.h"
#include "mempool/region.h"

namespace runnel::vfio {

/// Bus addresses [first, last] that a device behind this domain may use.
struct iova_range {
  std::uint64_t first = 0;
  std::uint64_t last = ~std::uint64_t{0};
};

struct domain_limits {
  std::uint32_t maps_max = 65535;
  std::uint64_t page_bytes = 4096;  // granularity of maps
};

/// What the devices of one translation domain can reach. Maps are made at `region::first_iova()`.
/// @context as device_transport, with the same tickets
class iommu_domain {
 public:
  virtual ~iommu_domain() = default;

  /// @error queue_full, device_gone, invalid (alignment, outside the allowed ranges), no_memory
  [[nodiscard]] virtual result<ticket> map(const region& memory) noexcept = 0;
  [[nodiscard]] virtual result<ticket> unmap(const region& memory) noexcept = 0;
  [[nodiscard]] virtual std::optional<transport_reply> take(ticket which) noexcept = 0;
  /// What to do about an error of `map`; empty: nothing is known.
  [[nodiscard]] virtual std::string map_hint(error, const region&) const { return {}; }

  /// Re-read after every attach.
  [[nodiscard]] virtual std::vector<iova_range> allowed_ranges() const = 0;
  [[nodiscard]] virtual domain_limits limits() const noexcept = 0;
  /// Dirty tracking of the domain; `unsupported` where there is none.
  [[nodiscard]] virtual result<ticket> set_dirty_tracking(bool on) noexcept = 0;
};

}  // namespace runnel::vfio
