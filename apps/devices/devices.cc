#include "apps/devices/devices.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <iterator>
#include <string_view>
#include <utility>

#include "drivers/pci/config_file.h"

namespace runnel::devices {
namespace {

using json = nlohmann::ordered_json;

void read_capabilities(const pci::file_tree& files, entry& into) {
  pci::config_file space{files.real(pci::folder_of(into.device.where) + "/config")};
  auto found = pci::list_capabilities(space);
  if (!found) {  // a user who is not root, or a device that is asleep or gone
    return;
  }
  for (const pci::capability& each : *found) {
    if (pci::capability_id{each.id} == pci::capability_id::msix) {
      if (const auto vectors = pci::msix_vectors(space, each)) {
        into.msix_vectors = *vectors;
      }
    }
  }
  into.capabilities = std::move(*found);
}

json text_or_null(const std::string& text) {
  return text.empty() ? json{} : json(text);
}

template <class T>
json value_or_null(const std::optional<T>& value) {
  return value ? json(*value) : json{};
}

json identity_json(const entry& one) {
  const pci::identity& ids = one.device.ids;
  json out;
  out["address"] = pci::to_string(one.device.where);
  out["class"] = fmt::format("{:06x}", ids.class_code);
  out["class_name"] = text_or_null(one.names.kind);
  out["vendor"] = fmt::format("{:04x}", ids.vendor);
  out["vendor_name"] = text_or_null(one.names.vendor);
  out["device"] = fmt::format("{:04x}", ids.device);
  out["device_name"] = text_or_null(one.names.device);
  out["subsystem"] = fmt::format("{:04x}:{:04x}", ids.subsystem_vendor, ids.subsystem_device);
  out["subsystem_name"] = text_or_null(one.names.subsystem);
  return out;
}

json resources_json(const pci::device& which) {
  json out = json::array();
  for (std::size_t i = 0; i < which.resources.size(); ++i) {
    const pci::resource& each = which.resources[i];
    if (each.bytes != 0) {
      out.push_back({{"index", i},
                     {"kind", each.is_memory() ? "memory" : "io"},
                     {"start", fmt::format("{:#x}", each.start)},
                     {"bytes", each.bytes}});
    }
  }
  return out;
}

json device_json(const entry& one) {
  const pci::device& which = one.device;
  json out = identity_json(one);
  out["driver"] = text_or_null(which.driver);
  out["driver_override"] = text_or_null(which.driver_override);
  out["numa_node"] = value_or_null(which.numa_node);
  out["iommu"] = text_or_null(which.iommu);
  out["group"] = value_or_null(which.group);
  out["group_members"] = json::array();
  for (const pci::group_member& member : which.members) {
    out["group_members"].push_back(
        {{"name", member.name}, {"driver", text_or_null(member.driver)}});
  }
  out["physical_function"] =
      which.physical_function ? json(pci::to_string(*which.physical_function)) : json{};
  out["virtual_functions"] = json::array();
  for (const pci::address& function : which.virtual_functions) {
    out["virtual_functions"].push_back(pci::to_string(function));
  }
  out["resources"] = resources_json(which);
  out["capabilities"] = json{};
  if (one.capabilities) {
    out["capabilities"] = json::array();
    for (const pci::capability& each : *one.capabilities) {
      out["capabilities"].push_back({{"id", each.id}, {"offset", each.offset}});
    }
  }
  out["msix_vectors"] = value_or_null(one.msix_vectors);
  out["uses"] = json::array();
  for (const pci::use& each : one.uses) {
    out["uses"].push_back(each.what);
  }
  out["transport"] = pci::to_string(one.serving.how);
  out["node"] = text_or_null(one.serving.node);
  out["why"] = one.serving.why;
  return out;
}

/// The name if there is one, else the number.
std::string called(const std::string& name, const std::string& number) {
  return name.empty() ? number : name;
}

using row = std::array<std::string, 7>;

row row_of(const entry& one) {
  const pci::device& which = one.device;
  const auto number = [](const auto& value) { return value ? std::to_string(*value) : "-"; };
  return {
      pci::to_string(which.where),
      which.driver.empty() ? "-" : which.driver,
      number(which.group),
      number(which.numa_node),
      which.iommu.empty() ? "-" : which.iommu,
      std::string{pci::to_string(one.serving.how)},
      fmt::format("{}: {} {}", called(one.names.kind, fmt::format("{:06x}", which.ids.class_code)),
                  called(one.names.vendor, fmt::format("{:04x}", which.ids.vendor)),
                  called(one.names.device, fmt::format("{:04x}", which.ids.device)))};
}

/// What is to be known before a device is used: who shares its group, and which way it is served.
std::string remarks_on(const entry& one) {
  std::vector<std::string> remarks;
  for (const pci::group_member& member : one.device.members) {
    if (member.name != pci::to_string(one.device.where)) {
      remarks.push_back(fmt::format("its group has {} ({}) too", member.name,
                                    member.driver.empty() ? "no driver" : member.driver));
    }
  }
  remarks.push_back(one.serving.why);
  return fmt::format("{}", fmt::join(remarks, "; "));
}

}  // namespace

listing find(const pci::file_tree& files) {
  listing found;
  found.has_pci = files.exists("/sys/bus/pci/devices");
  found.has_vfio_pci = files.exists("/sys/bus/pci/drivers/vfio-pci");
  found.has_iommufd = files.exists("/dev/iommu");
  std::vector<pci::identity> identities;
  for (const pci::address& where : pci::list_devices(files)) {
    auto device = pci::read_device(files, where);
    if (!device) {
      if (device.error().what.code != errc::not_found) {  // else it left while we were reading
        found.unread.push_back(std::move(device.error()));
      }
      continue;
    }
    identities.push_back(device->ids);
    entry one;
    one.serving = pci::find_way(files, *device);
    one.uses = pci::uses_of(files, *device);
    one.device = std::move(*device);
    read_capabilities(files, one);
    found.devices.push_back(std::move(one));
  }
  std::vector<pci::device_names> names = pci::find_names(files, identities);
  for (std::size_t i = 0; i < names.size(); ++i) {
    found.devices[i].names = std::move(names[i]);
  }
  return found;
}

std::string to_json(const listing& what) {
  json out;
  out["pci"] = what.has_pci;
  out["vfio_pci"] = what.has_vfio_pci;
  out["iommufd"] = what.has_iommufd;
  out["devices"] = json::array();
  for (const entry& one : what.devices) {
    out["devices"].push_back(device_json(one));
  }
  return out.dump(2, ' ', false, json::error_handler_t::replace);
}

std::string to_text(const listing& what) {
  if (what.devices.empty()) {
    return what.has_pci ? "there are no PCI devices\n"
                        : "there are no PCI devices: the machine has no /sys/bus/pci\n";
  }
  std::vector<row> rows{{"ADDRESS", "DRIVER", "GROUP", "NUMA", "IOMMU", "SERVED BY", "DEVICE"}};
  std::ranges::transform(what.devices, std::back_inserter(rows), row_of);
  std::array<std::size_t, std::tuple_size_v<row>> widths{};
  for (const row& each : rows) {
    for (std::size_t i = 0; i + 1 < each.size(); ++i) {  // the last column may be as long as it is
      widths[i] = std::max(widths[i], each[i].size());
    }
  }
  std::string out;
  for (std::size_t n = 0; n < rows.size(); ++n) {
    for (std::size_t i = 0; i < rows[n].size(); ++i) {
      fmt::format_to(std::back_inserter(out), "{}{:<{}}", i == 0 ? "" : "  ", rows[n][i],
                     widths[i]);
    }
    out += '\n';
    if (n != 0) {
      out += "    " + remarks_on(what.devices[n - 1]) + "\n";
    }
  }
  return out;
}

}  // namespace runnel::devices
