#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "drivers/pci/address.h"
#include "drivers/pci/file_tree.h"

// A PCI device as sysfs tells of it.
namespace runnel::pci {

inline constexpr std::string_view vfio_driver = "vfio-pci";

/// The numbers that say what a device is.
struct identity {
  std::uint32_t class_code = 0;  // class, subclass, interface: 0x010802
  std::uint16_t vendor = 0;
  std::uint16_t device = 0;
  std::uint16_t subsystem_vendor = 0;
  std::uint16_t subsystem_device = 0;
};

/// One of those that an IOMMU cannot keep apart; not always a PCI device.
struct group_member {
  std::string name;
  std::string driver;  // empty: none
};

/// Addresses that a device answers to. @spec Linux: sysfs-bus-pci, `resource`
struct resource {
  std::uint64_t start = 0;
  std::uint64_t bytes = 0;  // 0: the device has none of this number
  std::uint64_t flags = 0;  // IORESOURCE_*

  [[nodiscard]] bool is_memory() const noexcept { return (flags & 0x200U) != 0; }
};

inline constexpr std::size_t resources_max = 7;  // six BARs and the ROM; what follows is a bridge's

struct device {
  address where;
  identity ids;
  std::string driver;           // empty: none
  std::string driver_override;  // empty: whichever matches
  std::string iommu;            // the unit before it, as dmar0; empty: none
  std::optional<std::uint32_t> group;
  bool no_iommu = false;              // the group is one that VFIO made up
  std::vector<group_member> members;  // of the group, this device among them
  std::optional<std::uint32_t> numa_node;
  std::string vfio_name;  // of its character device, as vfio0; empty: none
  std::array<resource, resources_max> resources{};
  std::optional<address> physical_function;  // whose virtual function it is
  std::vector<address> virtual_functions;

  [[nodiscard]] bool is_bridge() const noexcept { return ids.class_code >> 16U == 0x06; }
};

/// "pci:0000:01:00.0": the object of every failure.
[[nodiscard]] std::string name_of(const address& where);
/// "/sys/bus/pci/devices/0000:01:00.0"
[[nodiscard]] std::string folder_of(const address& where);

/// All there are, in order; none when the machine has no PCI.
[[nodiscard]] std::vector<address> list_devices(const file_tree& files);

/// @error not_found; protocol: a file does not say what it should, and the hint names it
[[nodiscard]] outcome<device> read_device(const file_tree& files, const address& where);

/// Members of the group whose drivers keep others from using it.
[[nodiscard]] std::vector<group_member> obstacles(const device& which);

}  // namespace runnel::pci
