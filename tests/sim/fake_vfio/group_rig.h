#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <utility>

#include "drivers/vfio/group.h"
#include "drivers/vfio/kernel_device.h"
#include "drivers/vfio/type1_domain.h"
#include "tests/sim/fake_vfio/deferred_calls.h"
#include "tests/sim/fake_vfio/dma_memory.h"
#include "tests/sim/fake_vfio/kernel.h"

namespace runnel::sim {

/// Devices of a fake kernel, opened by their groups in one domain; what blocks is done at once
/// unless `calls` says otherwise.
class group_rig {
 public:
  explicit group_rig(const machine_options& options = {},
                     const char* container = vfio::type1_domain::vfio_container,
                     const fake_kernel::plan& fails = {})
      : kernel{options} {
    kernel.fails = fails;
    if (auto opened = vfio::type1_domain::open(kernel, container); opened) {
      domain = std::move(*opened);
    } else {
      refused = std::move(opened.error());
    }
  }

  fake_kernel kernel;
  deferred_calls::control calls;
  std::unique_ptr<vfio::type1_domain> domain;
  std::optional<failure> refused;  // why there is no domain
  instant now{};

  /// Not yet asked to open itself.
  [[nodiscard]] std::unique_ptr<vfio::kernel_device> make(std::size_t which = 0) {
    const auto& is = kernel.under.functions[which]->options;
    vfio::group_device device{.address = is.address, .group = is.group, .token = is.token};
    return std::make_unique<vfio::kernel_device>(
        kernel, std::make_unique<deferred_calls>(calls),
        std::make_unique<vfio::group_opener>(*domain, std::move(device)));
  }
  /// Ready, or gone.
  [[nodiscard]] std::unique_ptr<vfio::kernel_device> open(std::size_t which = 0) {
    auto device = make(which);
    device->advance(now);
    return device;
  }
  [[nodiscard]] pci_function& function(std::size_t which = 0) {
    return *kernel.under.functions[which];
  }
};

}  // namespace runnel::sim
