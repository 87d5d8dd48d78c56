#pragma once

#include <optional>
#include <string>
#include <vector>

#include "drivers/pci/config_space.h"
#include "drivers/pci/device.h"
#include "drivers/pci/names.h"
#include "drivers/pci/serving.h"
#include "drivers/pci/uses.h"

namespace runnel::devices {

/// A device with all that is told of it.
struct entry {
  pci::device device;
  pci::device_names names;
  std::vector<pci::use> uses;
  pci::serving serving;
  // What this user may read of its configuration space: without root, nothing.
  std::optional<std::vector<pci::capability>> capabilities;
  std::optional<std::uint32_t> msix_vectors;
};

struct listing {
  std::vector<entry> devices;
  std::vector<failure> unread;  // devices that are there and could not be read
  bool has_pci = false;         // whether the machine has a PCI bus at all
  bool has_vfio_pci = false;
  bool has_iommufd = false;
};

[[nodiscard]] listing find(const pci::file_tree& files);

[[nodiscard]] std::string to_json(const listing& what);
/// A table, each row followed by why its device is served so.
[[nodiscard]] std::string to_text(const listing& what);

}  // namespace runnel::devices
