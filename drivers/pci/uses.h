#pragma once

#include <string>
#include <vector>

#include "drivers/pci/device.h"

namespace runnel::pci {

/// Something of the kernel's that would lose the device under its feet.
struct use {
  std::string what;    // "nvme0n1p1 is mounted at /"
  std::string remedy;  // "`umount /` first"
};

/// Why a device may not be taken from its driver now: disks that are mounted, swapped to or part of
/// others (RAID, device mapper, file systems of several disks), network interfaces with addresses,
/// routes or part of others, virtual functions. Empty: nothing of that kind.
[[nodiscard]] std::vector<use> uses_of(const file_tree& files, const device& which);

/// Processes that have a path open, as "qemu (pid 42)"; those of other users only for root.
[[nodiscard]] std::vector<std::string> holders_of(const file_tree& files, std::string_view path);

}  // namespace runnel::pci
