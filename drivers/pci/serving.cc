#include "drivers/pci/serving.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <initializer_list>
#include <utility>

#include "drivers/pci/bindable.h"

namespace runnel::pci {
namespace {

constexpr std::string_view iommufd_node = "/dev/iommu";

std::string group_node(const device& which) {
  return fmt::format("/dev/vfio/{}{}", which.no_iommu ? "noiommu-" : "", which.group.value_or(0));
}

std::string cdev_node(const device& which) {
  return "/dev/vfio/devices/" + which.vfio_name;
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

/// Why none of these can be opened. Empty: all can.
std::string why_not_open(const file_tree& files, std::initializer_list<std::string> nodes) {
  for (const std::string& node : nodes) {
    if (!files.exists(node)) {
      return "there is no " + node;
    }
    if (!files.may_open(node)) {
      return fmt::format("this user may not open {0}; `sudo chown $USER {0}`", node);
    }
  }
  return "";
}

/// Why a way cannot be gone with a device that is VFIO's. Empty: it can.
std::string why_not(const file_tree& files, const device& which, way wanted) {
  if ((wanted == way::noiommu) != which.no_iommu) {
    return which.no_iommu ? "there is no IOMMU before it" : "it is behind an IOMMU";
  }
  const std::string iommufd{iommufd_node};
  switch (wanted) {
    case way::cdev:
      return which.vfio_name.empty() ? "the kernel offers no character device for it"
                                     : why_not_open(files, {iommufd, cdev_node(which)});
    case way::compat:
      return why_not_open(files, {iommufd, group_node(which)});
    case way::group:
    case way::noiommu:
      return why_not_open(files, {group_node(which)});
    case way::none:
      break;
  }
  return "";
}

std::string node_of(const device& which, way how) {
  return how == way::cdev ? cdev_node(which) : group_node(which);
}

}  // namespace

std::string_view to_string(way how) noexcept {
  switch (how) {
    case way::group:
      return "group";
    case way::compat:
      return "compat";
    case way::cdev:
      return "cdev";
    case way::noiommu:
      return "noiommu";
    case way::none:
      break;
  }
  return "none";
}

serving find_way(const file_tree& files, const device& which, way wanted) {
  if (which.driver != vfio_driver) {
    return no_way(why_unbound(files, which));
  }
  if (std::string why = why_not_viable(which); !why.empty()) {
    return no_way(std::move(why));
  }
  if (std::string why = why_not(files, which, wanted); !why.empty()) {
    return no_way(std::move(why));
  }
  return {.how = wanted, .node = node_of(which, wanted), .why = {}};
}

serving find_way(const file_tree& files, const device& which) {
  serving best = find_way(files, which, way::cdev);
  if (best.how != way::none) {
    best.why = "preferred where it is there, and /dev/iommu";
    return best;
  }
  serving other = find_way(files, which, which.no_iommu ? way::noiommu : way::group);
  if (other.how == way::noiommu) {
    other.why = "no IOMMU guards memory from it: only when asked for, by via=noiommu";
  } else if (other.how == way::group) {
    other.why = "not by its node: " + best.why;
  } else if (best.why != other.why) {
    other.why += ", and " + best.why;
  }
  return other;
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
