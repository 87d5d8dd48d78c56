#include "drivers/pci/bindable.h"

#include <fmt/format.h>

#include <string>
#include <utility>
#include <vector>

#include "drivers/pci/uses.h"

namespace runnel::pci {
namespace {

constexpr const char* no_iommu_switch = "/sys/module/vfio/parameters/enable_unsafe_noiommu_mode";

}  // namespace

outcome<> check_bindable(const file_tree& files, const device& which) {
  const auto refuse_to = [&which](errc why, std::string hint) {
    return fail({why}, "bind", name_of(which.where), std::move(hint));
  };
  if (which.is_bridge()) {
    return refuse_to(errc::unsupported, "a bridge stays with the kernel; bind what is behind it");
  }
  if (const std::vector<use> uses = uses_of(files, which); !uses.empty()) {
    std::string hint = uses.front().what;
    for (std::size_t i = 1; i < uses.size(); ++i) {
      hint += ", " + uses[i].what;
    }
    return refuse_to(errc::busy, hint + "; " + uses.front().remedy);
  }
  if (!files.exists("/sys/bus/pci/drivers/vfio-pci/bind")) {
    return refuse_to(errc::not_found, "the kernel has no driver vfio-pci: run `modprobe vfio-pci`");
  }
  const bool without = files.text(no_iommu_switch) == "Y";
  if (!which.group && !without) {
    return refuse_to(
        errc::unsupported,
        fmt::format("no IOMMU guards memory from it: boot with intel_iommu=on (Intel) or with the "
                    "IOMMU on in the firmware (AMD: amd_iommu=off must go); at your own risk "
                    "without: `echo 1 > {}`",
                    no_iommu_switch));
  }
  return {};
}

}  // namespace runnel::pci
