#pragma once

#include <array>
#include <cstddef>
#include <memory>
#include <optional>
#include <utility>

#include "drivers/vfio/cdev.h"
#include "drivers/vfio/kernel_device.h"
#include "tests/sim/fake_vfio/deferred_calls.h"
#include "tests/sim/fake_vfio/kernel.h"

namespace runnel::sim {

/// Devices of a fake kernel, opened by their nodes in one domain; what blocks is done at once
/// unless `calls` says otherwise.
class cdev_rig {
 public:
  explicit cdev_rig(const machine_options& options = {}, const fake_kernel::plan& fails = {})
      : kernel{options} {
    kernel.fails = fails;
    if (auto opened = vfio::ioas_domain::open(kernel); opened) {
      domain = std::move(*opened);
    } else {
      refused = std::move(opened.error());
    }
  }

  fake_kernel kernel;
  deferred_calls::control calls;
  std::unique_ptr<vfio::ioas_domain> domain;
  std::optional<failure> refused;  // why there is no domain
  std::optional<std::array<std::byte, 16>> token;
  instant now{};

  /// Ready, or gone.
  [[nodiscard]] std::unique_ptr<vfio::kernel_device> open(std::size_t which = 0) {
    const auto& is = kernel.under.functions[which]->options;
    auto device = std::make_unique<vfio::kernel_device>(
        kernel, std::make_unique<deferred_calls>(calls),
        std::make_unique<vfio::cdev_opener>(
            kernel, *domain,
            vfio::cdev_device{
                .address = is.address, .node = "/dev/vfio/devices/" + is.node, .token = token}));
    device->advance(now);
    return device;
  }
  [[nodiscard]] pci_function& function(std::size_t which = 0) {
    return *kernel.under.functions[which];
  }
};

}  // namespace runnel::sim
