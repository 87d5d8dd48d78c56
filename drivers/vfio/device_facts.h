#pragma once

#include <string>
#include <vector>

#include "drivers/vfio/syscalls.h"
#include "drivers/vfio/transport.h"
#include "mempool/base/error.h"

namespace runnel::vfio {

/// What a kernel's device says about itself, once.
struct device_facts {
  device_info info;
  std::vector<region_info> regions;  // `fd` is the device's
  std::vector<irq_info> irqs;
};

inline constexpr std::uint32_t kernel_regions_max = 64;
inline constexpr std::uint32_t kernel_irqs_max = 64;

/// Asks an opened device for all of it. Regions and interrupts that it refuses to describe are
/// absent; where the pages of the MSI-X table must not be mapped, areas are around them.
/// @param fd  of the device; borrowed
[[nodiscard]] outcome<device_facts> learn_device(syscalls& system, int fd,
                                                 const std::string& object);

}  // namespace runnel::vfio
