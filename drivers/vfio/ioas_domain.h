#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "drivers/vfio/kernel_domain.h"
#include "drivers/vfio/syscalls.h"
#include "mempool/base/error.h"

namespace runnel::vfio {

/// An address space (IOAS) of an iommufd of its own, to which devices are attached by their nodes.
/// Memory with a file is mapped by the file where the kernel can (6.13), else by its address.
/// @spec Linux Documentation/userspace-api/iommufd.rst
class ioas_domain final : public kernel_domain {
 public:
  [[nodiscard]] static outcome<std::unique_ptr<ioas_domain>> open(syscalls& system);

  /// Borrowed.
  [[nodiscard]] int iommufd() const noexcept { return iommufd_.get(); }
  /// What devices are attached to.
  [[nodiscard]] std::uint32_t ioas() const noexcept { return ioas_; }
  [[nodiscard]] outcome<> refresh() override;

 private:
  ioas_domain(syscalls& system, kernel_fd iommufd, std::uint32_t ioas)
      : kernel_domain{system, "/dev/iommu"}, iommufd_{std::move(iommufd)}, ioas_{ioas} {}

  [[nodiscard]] bool translates() const noexcept override { return true; }
  [[nodiscard]] result<> ask_map(const region& memory) noexcept override;
  [[nodiscard]] result<> ask_map_file(const region& memory, std::uint32_t flags) noexcept;
  [[nodiscard]] result<> ask_unmap(const region& memory) noexcept override;

  kernel_fd iommufd_;
  std::uint32_t ioas_;
  bool maps_files_ = true;  // until the kernel says otherwise
};

}  // namespace runnel::vfio
