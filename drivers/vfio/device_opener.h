#pragma once

#include <memory>
#include <string>
#include <vector>

#include "drivers/vfio/domain.h"
#include "drivers/vfio/hot_reset.h"
#include "drivers/vfio/lifecycle.h"
#include "mempool/base/error.h"

namespace runnel::vfio {

/// The part of opening a device that blocks; holds all it needs, so it may outlive who started it.
/// @context `open` on another thread
class device_opening {
 public:
  device_opening() = default;
  device_opening(const device_opening&) = delete;
  device_opening& operator=(const device_opening&) = delete;
  virtual ~device_opening() = default;

  [[nodiscard]] virtual outcome<attached_device> open() = 0;
};

/// One of the kernel's ways to a device: by its group, or by its own node. Keeps the device's place
/// in its domain as long as it lives; so it goes before the domain.
/// @context the owner's thread
class device_opener {
 public:
  device_opener() = default;
  device_opener(const device_opener&) = delete;
  device_opener& operator=(const device_opener&) = delete;
  virtual ~device_opener() = default;

  /// "pci:0000:01:00.0", for failures.
  [[nodiscard]] virtual const std::string& object() const noexcept = 0;
  /// What must come first and does not block. Once.
  [[nodiscard]] virtual outcome<std::unique_ptr<device_opening>> prepare() = 0;
  /// Where it maps memory for itself; says `device_gone` once it has been let go. Goes with this.
  [[nodiscard]] virtual iommu_domain& domain() noexcept = 0;
  /// Gives back all that is mapped, and its place.
  virtual void let_go() noexcept = 0;
  /// The device is open: what it cannot reach is left out of the domain from now on.
  [[nodiscard]] virtual outcome<> opened() = 0;
  /// What proves that a hot reset is for us to do; nothing where the kernel knows by itself.
  [[nodiscard]] virtual std::vector<owned_group> groups() const { return {}; }
};

}  // namespace runnel::vfio
