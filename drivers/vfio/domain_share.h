#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "drivers/vfio/domain.h"
#include "drivers/vfio/kernel_domain.h"
#include "drivers/vfio/settled_tickets.h"

namespace runnel::vfio {

/// What one device has mapped in the domain that it shares with others, and gives back when it
/// goes.
/// @context one thread, its device's; a map blocks while the kernel pins its pages. The domain
///          outlives it
class domain_share final : public iommu_domain {
 public:
  explicit domain_share(kernel_domain& domain) noexcept : domain_{&domain} {}
  domain_share(const domain_share&) = delete;
  domain_share& operator=(const domain_share&) = delete;
  ~domain_share() override { let_go(); }

  /// Gives all of it back, and maps nothing more.
  void let_go() noexcept;

  [[nodiscard]] result<ticket> map(const region& memory) noexcept override;
  /// @error invalid, too: others may have it mapped, this device has not; device_gone: let go
  [[nodiscard]] result<ticket> unmap(const region& memory) noexcept override;
  [[nodiscard]] std::optional<transport_reply> take(ticket which) noexcept override {
    return tickets_.take(which);
  }
  [[nodiscard]] std::string map_hint(error what, const region& memory) const override {
    return domain_->map_hint(what, memory);
  }
  [[nodiscard]] std::vector<iova_range> allowed_ranges() const override {
    return domain_->allowed_ranges();
  }
  [[nodiscard]] domain_limits limits() const noexcept override { return domain_->limits(); }
  /// @error unsupported: type1 calls dirty whatever is pinned, which is all of it
  [[nodiscard]] result<ticket> set_dirty_tracking(bool) noexcept override {
    return fail(errc::unsupported);
  }

 private:
  [[nodiscard]] result<ticket> settle(const result<>& ended) noexcept;

  kernel_domain* domain_;
  std::vector<region> maps_;
  settled_tickets tickets_;
  bool gone_ = false;
};

}  // namespace runnel::vfio
