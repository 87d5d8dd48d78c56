#pragma once

#include <memory>
#include <optional>
#include <string>

#include "drivers/vfio/device_opener.h"
#include "drivers/vfio/domain_share.h"
#include "drivers/vfio/ioas_domain.h"

namespace runnel::vfio {

/// A device by its own node.
struct cdev_device {
  std::string address;                 // "0000:01:00.0"
  std::string node;                    // "/dev/vfio/devices/vfio0"
  std::optional<vf_token> token = {};  // a VF's, where it wants one
};

/// Opens a device by its node and attaches it to the address space of a domain. Kernels since 6.6
/// offer that.
class cdev_opener final : public device_opener {
 public:
  /// @param kvm  is told of it before it is opened; null: nobody is
  cdev_opener(syscalls& system, ioas_domain& domain, cdev_device device,
              const kvm_vfio* kvm = nullptr);

  [[nodiscard]] const std::string& object() const noexcept override { return object_; }
  [[nodiscard]] outcome<std::unique_ptr<device_opening>> prepare() override;
  [[nodiscard]] iommu_domain& domain() noexcept override { return share_; }
  void let_go() noexcept override { share_.let_go(); }
  [[nodiscard]] outcome<> opened() override { return domain_->refresh(); }

 private:
  syscalls* system_;
  ioas_domain* domain_;
  domain_share share_;
  cdev_device device_;
  std::string object_;
  const kvm_vfio* kvm_;
};

}  // namespace runnel::vfio
