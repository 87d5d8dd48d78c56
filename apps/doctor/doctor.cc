#include "apps/doctor/doctor.h"

#include <algorithm>
#include <utility>

#include "apps/doctor/checks.h"

namespace runnel::doctor {

bool diagnosis::is_fit() const {
  return std::ranges::none_of(checks,
                              [](const check& each) { return each.status == status::failed; });
}

diagnosis examine(const machine& here, std::vector<structure> structures) {
  diagnosis found{.kernel = kernel_release(here.files),
                  .checks = {},
                  .interfaces = list_interfaces(here),
                  .devices = {},
                  .structures = std::move(structures)};
  device_list all;
  for (const pci::address& where : pci::list_devices(here.files)) {
    auto one = pci::read_device(here.files, where);
    treatment its{.address = pci::to_string(where), .driver = {}, .serving = {}};
    if (one) {
      its.driver = one->driver;
      its.serving = pci::find_way(here.files, *one);
      all.push_back(std::move(*one));
    } else {
      its.serving.why = one.error().message();
    }
    found.devices.push_back(std::move(its));
  }
  found.checks = {
      check_pci(here),
      check_iommu(here),
      check_address_width(here),
      check_interrupt_remapping(here),
      check_vfio_module(here),
      check_iommufd(here),
      check_device_driver(here, all),
      check_group_viable(here, all),
      check_device_access(here, all),
      check_memlock(here),
      check_hugepages(here),
      check_io_uring(here),
      check_cpuset(here),
  };
  return found;
}

}  // namespace runnel::doctor
