#pragma once

#include <vector>

#include "apps/doctor/check.h"
#include "apps/doctor/machine.h"
#include "drivers/pci/device.h"

// A function for each precondition. What does not apply to a machine is ok, and says so.
namespace runnel::doctor {

// What the machine and its kernel have.
[[nodiscard]] check check_pci(const machine& here);
[[nodiscard]] check check_vfio_module(const machine& here);
[[nodiscard]] check check_iommufd(const machine& here);
[[nodiscard]] check check_iommu(const machine& here);
/// How many address bits the IOMMU translates.
[[nodiscard]] check check_address_width(const machine& here);
/// Without it VFIO refuses devices, with EPERM.
[[nodiscard]] check check_interrupt_remapping(const machine& here);

// What this process may have.
[[nodiscard]] check check_hugepages(const machine& here);
[[nodiscard]] check check_memlock(const machine& here);
[[nodiscard]] check check_io_uring(const machine& here);
/// Whether it may run on all CPUs.
[[nodiscard]] check check_cpuset(const machine& here);

// Devices. @param all  that the machine has
using device_list = std::vector<pci::device>;
/// Whether one that we drive was taken from the kernel's driver.
[[nodiscard]] check check_device_driver(const machine& here, const device_list& all);
/// Whether the groups of those that were taken have nobody else in them.
[[nodiscard]] check check_group_viable(const machine& here, const device_list& all);
/// Whether this user may open their nodes.
[[nodiscard]] check check_device_access(const machine& here, const device_list& all);

/// Whether an IOMMU is before the machine's devices.
[[nodiscard]] bool has_iommu(const pci::file_tree& files);

}  // namespace runnel::doctor
