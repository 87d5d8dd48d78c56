#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <string>
#include <vector>

#include "apps/doctor/checks.h"
#include "drivers/pci/bindable.h"
#include "drivers/pci/serving.h"

namespace runnel::doctor {
namespace {

constexpr std::uint32_t nvme_class = 0x01'08'02;  // with NVMe's registers

bool is_taken(const pci::device& which) {
  return which.driver == pci::vfio_driver;
}

std::string whose(const pci::device& which) {
  return pci::to_string(which.where) +
         (which.driver.empty() ? " has no driver" : " is bound to " + which.driver);
}

}  // namespace

check check_device_driver(const machine& here, const device_list& all) {
  constexpr std::string_view id = "device_driver";
  device_list ours;
  std::ranges::copy_if(all, std::back_inserter(ours),
                       [](const pci::device& each) { return each.ids.class_code == nvme_class; });
  if (ours.empty()) {
    return good(id, "there is no NVMe device on PCI");
  }
  std::vector<std::string> taken;
  std::vector<std::string> left;
  for (const pci::device& each : ours) {
    (is_taken(each) ? taken : left).push_back(whose(each));
  }
  if (!taken.empty()) {
    return good(id, fmt::format("{}", fmt::join(taken, ", ")));
  }
  std::string obstacle;  // of the first
  for (const pci::device& each : ours) {
    const auto bindable = pci::check_bindable(here.files, each);
    if (bindable) {
      return doubtful(id, fmt::format("{}", fmt::join(left, ", ")),
                      as_root(here, "runnel bind " + pci::to_string(each.where)));
    }
    if (obstacle.empty()) {
      obstacle = bindable.error().hint;
    }
  }
  return doubtful(id, fmt::format("{}", fmt::join(left, ", ")),
                  fmt::format("{}; then {}", obstacle,
                              as_root(here, "runnel bind " + pci::to_string(ours[0].where))));
}

check check_group_viable(const machine& here, const device_list& all) {
  constexpr std::string_view id = "group_viable";
  std::vector<std::string> causes;
  std::vector<std::string> others;
  for (const pci::device& each : all) {
    for (const pci::group_member& member :
         is_taken(each) ? pci::obstacles(each) : std::vector<pci::group_member>{}) {
      if (std::ranges::find(others, member.name) == others.end()) {
        causes.push_back(fmt::format("group {} of {} is not viable: {} is bound to {}",
                                     each.group.value_or(0), pci::to_string(each.where),
                                     member.name, member.driver));
        others.push_back(member.name);
      }
    }
  }
  if (others.empty()) {
    return good(id, std::ranges::any_of(all, is_taken) ? "nobody else is in the groups of devices "
                                                         "that vfio-pci has"
                                                       : "vfio-pci has no device");
  }
  return bad(id, fmt::format("{}", fmt::join(causes, "; ")),
             as_root(here, fmt::format("runnel bind {}", fmt::join(others, " "))));
}

check check_device_access(const machine& here, const device_list& all) {
  constexpr std::string_view id = "device_access";
  std::vector<std::string> closed;
  for (const pci::device& each : all) {
    if (!is_taken(each) || pci::find_way(here.files, each).how != pci::way::none) {
      continue;
    }
    std::vector<std::string> nodes = pci::vfio_nodes(each);
    nodes.insert(nodes.end(), {"/dev/vfio/vfio", "/dev/iommu"});
    std::ranges::copy_if(nodes, std::back_inserter(closed), [&here](const std::string& node) {
      return here.files.exists(node) && !here.files.may_open(node);
    });
  }
  if (closed.empty()) {
    return good(id, std::ranges::any_of(all, is_taken) ? "this user may open what vfio-pci has"
                                                       : "vfio-pci has no device");
  }
  std::ranges::sort(closed);
  closed.erase(std::ranges::unique(closed).begin(), closed.end());
  return bad(id, fmt::format("this user may not open {}", fmt::join(closed, ", ")),
             as_root(here, fmt::format("chown $USER {}", fmt::join(closed, " "))));
}

}  // namespace runnel::doctor
