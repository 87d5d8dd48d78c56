#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "drivers/vfio/container_domain.h"
#include "drivers/vfio/syscalls.h"
#include "mempool/base/error.h"
#include "mempool/base/units.h"

namespace runnel::vfio {

/// A container whose groups are behind no IOMMU: their devices reach all memory of the machine, by
/// its physical address. Nothing is translated or guarded, so memory can be mapped only where its
/// bus address is its physical one, all along; and it must stay there, as huge pages do.
/// @spec Linux VFIO_NOIOMMU_IOMMU
class noiommu_domain final : public container_domain {
 public:
  [[nodiscard]] static outcome<std::unique_ptr<noiommu_domain>> open(syscalls& system);

  /// Where a page of ours is.
  /// @error os: EPERM, for who may not know (CAP_SYS_ADMIN)
  [[nodiscard]] result<iova> physical_address(const std::byte* page);

  [[nodiscard]] outcome<> refresh() override { return {}; }
  [[nodiscard]] std::string map_hint(error what, const region& memory) const override;

 private:
  noiommu_domain(syscalls& system, kernel_fd container, kernel_fd pagemap) noexcept
      : container_domain{system, std::move(container), vfio_container},
        pagemap_{std::move(pagemap)} {}

  [[nodiscard]] unsigned long kind() const noexcept override;
  [[nodiscard]] std::string node_of(int number) const override;
  void unmap_all() noexcept override {}
  [[nodiscard]] result<> ask_map(const region& memory) noexcept override;
  [[nodiscard]] result<> ask_unmap(const region&) noexcept override { return {}; }

  kernel_fd pagemap_;  // opened while we may know where memory is
};

}  // namespace runnel::vfio
