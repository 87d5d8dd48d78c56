#pragma once

#include <memory>
#include <string>

#include "drivers/vfio/container_domain.h"
#include "drivers/vfio/device_opener.h"
#include "drivers/vfio/domain_share.h"

namespace runnel::vfio {

/// A device by its group.
struct group_device {
  std::string address;     // "0000:01:00.0"
  int group = 0;           // its number
  std::string token = {};  // a UUID, where it is a VF that wants one
};

/// Opens a device by its group, in the container of a domain. Every kernel offers that.
class group_opener final : public device_opener {
 public:
  group_opener(container_domain& domain, group_device device);
  group_opener(const group_opener&) = delete;
  group_opener& operator=(const group_opener&) = delete;
  ~group_opener() override { let_go(); }

  [[nodiscard]] const std::string& object() const noexcept override { return object_; }
  [[nodiscard]] outcome<std::unique_ptr<device_opening>> prepare() override;
  [[nodiscard]] iommu_domain& domain() noexcept override { return share_; }
  void let_go() noexcept override;
  [[nodiscard]] outcome<> opened() override { return domain_->refresh(); }
  [[nodiscard]] std::vector<owned_group> groups() const override { return domain_->groups(); }

 private:
  container_domain* domain_;
  domain_share share_;
  group_device device_;
  std::string object_;
  bool joined_ = false;
};

}  // namespace runnel::vfio
