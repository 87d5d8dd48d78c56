#pragma once

#include "drivers/pci/device.h"

namespace runnel::pci {

/// Whether a device could go to vfio-pci now, for who may do that.
/// @error busy: the hint says with what; unsupported: a bridge, or no IOMMU; not_found: no vfio-pci
[[nodiscard]] outcome<> check_bindable(const file_tree& files, const device& which);

}  // namespace runnel::pci
