#include "apps/doctor/interfaces.h"

#include <array>

#include "apps/doctor/checks.h"

namespace runnel::doctor {
namespace {

/// What a way of VFIO needs of the machine.
struct need {
  bool met;
  std::string_view otherwise;
};

template <std::size_t Count>
interface vfio_way(std::string_view name, const std::array<need, Count>& needs,
                   std::string_view how) {
  for (const need& each : needs) {
    if (!each.met) {
      return {.name = name, .works = false, .why = std::string{each.otherwise}};
    }
  }
  return {.name = name, .works = true, .why = std::string{how}};
}

}  // namespace

std::vector<interface> list_interfaces(const machine& here) {
  const pci::file_tree& files = here.files;
  const need driver{check_vfio_module(here).status == status::ok, "the kernel has no vfio-pci"};
  const need iommu{has_iommu(files), "there is no IOMMU"};
  const need remapping{check_interrupt_remapping(here).status == status::ok,
                       "the IOMMU does not remap interrupts"};
  const need iommufd{files.exists("/dev/iommu"), "there is no /dev/iommu"};
  const need nodes{files.exists("/sys/class/vfio-dev"), "devices get no nodes of their own"};
  const need container{files.exists("/dev/vfio/vfio"), "there is no /dev/vfio/vfio"};
  const std::string noiommu = "/sys/module/vfio/parameters/enable_unsafe_noiommu_mode";
  const need unguarded{files.exists(noiommu), "the kernel is built without CONFIG_VFIO_NOIOMMU"};
  const need allowed{files.text(noiommu) == "Y",
                     "root has not allowed it by writing 1 to its "
                     "switch, enable_unsafe_noiommu_mode of vfio"};
  return {
      vfio_way("cdev", std::array{driver, iommu, remapping, iommufd, nodes},
               "a node for each device, and /dev/iommu: preferred"),
      vfio_way("group", std::array{driver, iommu, remapping, container},
               "a node for each group, and the container /dev/vfio/vfio"),
      vfio_way("compat", std::array{driver, iommu, remapping, iommufd},
               "a node for each group in an iommufd: only when asked for"),
      vfio_way("noiommu", std::array{driver, unguarded, allowed},
               "nothing guards memory from devices: only when asked for"),
      {.name = "vfio-user", .works = true, .why = "devices of `runnel target`: a socket is all"},
      {.name = "file",
       .works = true,
       .why = here.io_uring ? "by io_uring" : "by pread and pwrite, as io_uring is refused"},
      {.name = "ram", .works = true, .why = "memory of the process"},
      {.name = "null", .works = true, .why = "moves nothing"},
  };
}

}  // namespace runnel::doctor
