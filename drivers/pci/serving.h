#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "drivers/pci/device.h"

namespace runnel::pci {

/// Ways of the kernel's VFIO to a device.
enum class way : std::uint8_t {
  none,
  group,    // /dev/vfio/N and the container /dev/vfio/vfio
  compat,   // /dev/vfio/N, and /dev/iommu as its container
  cdev,     // /dev/vfio/devices/vfioN and /dev/iommu
  noiommu,  // /dev/vfio/noiommu-N: nothing guards memory
};
[[nodiscard]] std::string_view to_string(way how) noexcept;

/// How a device can be opened now.
struct serving {
  way how = way::none;
  std::string node;  // what to open; empty: nothing
  std::string why;   // this way and not a better one, or what is missing
};

/// The best way to a device that the machine offers this process; of two that are there, one that
/// it may open. A device that has to be bound first has none.
[[nodiscard]] serving find_way(const file_tree& files, const device& which);

/// That way alone, or none and why not. @pre wanted != none
[[nodiscard]] serving find_way(const file_tree& files, const device& which, way wanted);

/// The nodes that a device may have, for whoever looks for those who have it open.
[[nodiscard]] std::vector<std::string> vfio_nodes(const device& which);

}  // namespace runnel::pci
