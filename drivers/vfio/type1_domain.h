#pragma once

#include <memory>
#include <string>
#include <utility>

#include "drivers/vfio/container_domain.h"
#include "drivers/vfio/syscalls.h"
#include "mempool/base/error.h"

namespace runnel::vfio {

/// A container whose groups are behind an IOMMU, of type 1, version 2.
/// @spec Linux VFIO_TYPE1v2_IOMMU
class type1_domain final : public container_domain {
 public:
  [[nodiscard]] static outcome<std::unique_ptr<type1_domain>> open(
      syscalls& system, std::string path = vfio_container);

  [[nodiscard]] outcome<> refresh() override;

 private:
  type1_domain(syscalls& system, kernel_fd container, std::string path) noexcept
      : container_domain{system, std::move(container), std::move(path)} {}

  [[nodiscard]] unsigned long kind() const noexcept override;
  [[nodiscard]] std::string node_of(int number) const override;
  void unmap_all() noexcept override;
  [[nodiscard]] result<> ask_map(const region& memory) noexcept override;
  [[nodiscard]] result<> ask_unmap(const region& memory) noexcept override;
};

}  // namespace runnel::vfio
