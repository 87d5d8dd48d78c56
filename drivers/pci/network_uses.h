#pragma once

#include <vector>

#include "drivers/pci/uses.h"

namespace runnel::pci {

/// What is done with the network interfaces of a device.
[[nodiscard]] std::vector<use> network_uses(const file_tree& files, const address& where);

}  // namespace runnel::pci
