#include "drivers/pci/serving.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <utility>

#include "drivers/pci/bindable.h"

namespace runnel::pci {
namespace {

constexpr std::string_view iommufd_node = "/dev/iommu";

std::string group_node(const device& which) {
  return fmt::format("/dev/vfio/{}{}", which.no_iommu ? "noiommu-" : "", which.group.value_or(0));
}

std::string cdev_node(const device& which) {
  return which.vfio_name.empty() ? "" : "/dev/vfio/devices/" + which.vfio_name;
}

serving no_way(std::string why) {
  return {.how = way::none, .node = {}, .why = std::move(why)};
}

/// Why there is no way to a device that VFIO does not have yet: what to do, or what is in the way.
std::string why_unbound(const file_tree& files, const device& which) {
  const std::string whose =
      which.driver.empty() ? "it has no driver" : "it is bound to " + which.driver;
  const auto bindable = check_bindable(files, which);
  return whose + "; " +
         (bindable ? "`runnel bind " + to_string(which.where) + "`" : bindable.error().hint);
}

/// Why a group that is there cannot be used. Empty: it can.
std::string why_not_viable(const device& which) {
  const auto others = obstacles(which);
  if (others.empty()) {
    return "";
  }
  std::vector<std::string> names;
  names.reserve(others.size());
  for (const group_member& other : others) {
    names.push_back(fmt::format("{} is bound to {}", other.name, other.driver));
  }
  return fmt::format("group {} is not viable: {}; `runnel bind {}`", which.group.value_or(0),
                     fmt::join(names, ", "), others.front().name);
}

/// Why there is no character device to open. Empty: there is.
std::string why_no_cdev(const file_tree& files, const device& which) {
  if (!files.exists(iommufd_node)) {
    return "the kernel offers no /dev/iommu";
  }
  if (which.vfio_name.empty() || !files.exists(cdev_node(which))) {
    return "the kernel offers no character device for it";
  }
  for (const std::string& node : {cdev_node(which), std::string{iommufd_node}}) {
    if (!files.may_open(node)) {
      return "this user may not open " + node;
    }
  }
  return "";
}

}  // namespace

std::string_view to_string(way how) noexcept {
  switch (how) {
    case way::group:
      return "group";
    case way::cdev:
      return "cdev";
    case way::noiommu:
      return "noiommu";
    case way::none:
      break;
  }
  return "none";
}

serving find_way(const file_tree& files, const device& which) {
  if (which.driver != vfio_driver) {
    return no_way(why_unbound(files, which));
  }
  if (std::string why = why_not_viable(which); !why.empty()) {
    return no_way(std::move(why));
  }
  const std::string why_group = why_no_cdev(files, which);
  if (why_group.empty() && !which.no_iommu) {
    return {.how = way::cdev,
            .node = cdev_node(which),
            .why = "preferred where it is there, and /dev/iommu"};
  }
  const std::string node = group_node(which);
  if (!files.exists(node)) {
    return no_way("there is no " + node + (why_group.empty() ? "" : ", and " + why_group));
  }
  if (!files.may_open(node)) {
    return no_way(fmt::format("this user may not open {0}; `sudo chown $USER {0}`", node));
  }
  if (which.no_iommu) {
    return {.how = way::noiommu,
            .node = node,
            .why = "no IOMMU guards memory from it: only when asked for by name"};
  }
  return {.how = way::group, .node = node, .why = why_group};
}

std::vector<std::string> vfio_nodes(const device& which) {
  std::vector<std::string> nodes;
  if (which.group) {
    nodes.push_back(group_node(which));
  }
  if (!which.vfio_name.empty()) {
    nodes.push_back(cdev_node(which));
  }
  return nodes;
}

}  // namespace runnel::pci
