#include <fmt/format.h>

#include "apps/doctor/checks.h"

namespace runnel::doctor {

check check_pci(const machine& here) {
  constexpr std::string_view id = "pci";
  if (!here.files.exists("/sys/bus/pci")) {
    return bad(id, "the kernel shows no PCI bus",
               "a machine that has one, or /sys of one that this container hides; file:, ram:, "
               "null: and vfio-user: need none");
  }
  return good(id, fmt::format("{} devices", pci::list_devices(here.files).size()));
}

check check_vfio_module(const machine& here) {
  constexpr std::string_view id = "vfio_module";
  if (!here.files.exists("/sys/bus/pci/drivers/vfio-pci")) {
    return bad(id, "the kernel has no driver vfio-pci now",
               module_remedy(here, "vfio-pci", "CONFIG_VFIO_PCI"));
  }
  if (!here.files.exists("/sys/module/vfio_iommu_type1") && !here.files.exists("/dev/iommu")) {
    return bad(id, "the kernel has vfio-pci, but nothing that maps memory for it",
               module_remedy(here, "vfio_iommu_type1", "CONFIG_VFIO_IOMMU_TYPE1"));
  }
  return good(id, "the kernel has vfio-pci");
}

check check_iommufd(const machine& here) {
  constexpr std::string_view id = "iommufd";
  if (!here.files.exists("/dev/iommu")) {
    return doubtful(
        id, "there is no /dev/iommu: devices come by their groups, not by their own nodes",
        module_remedy(here, "iommufd",
                      "CONFIG_IOMMUFD and CONFIG_VFIO_DEVICE_CDEV, 6.6 or later (no kernel of "
                      "Debian is)"));
  }
  if (!here.files.exists("/sys/class/vfio-dev")) {
    return doubtful(id, "there is /dev/iommu, but devices get no nodes of their own",
                    "a kernel that is built with CONFIG_VFIO_DEVICE_CDEV, 6.6 or later");
  }
  return good(id, "there is /dev/iommu, and devices get nodes of their own");
}

}  // namespace runnel::doctor
