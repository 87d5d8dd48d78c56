#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "drivers/pci/device.h"

namespace runnel::pci {

/// What people call a device. Empty: nobody has said.
struct device_names {
  std::string kind;  // "Non-Volatile memory controller"
  std::string vendor;
  std::string device;
  std::string subsystem;
};

/// Looks devices up in the lines of a pci.ids file as they pass; keeps what was asked for.
/// @spec https://pci-ids.ucw.cz: vendors, devices and subsystems by indentation, then classes
class name_search {
 public:
  explicit name_search(std::span<const identity> wanted);

  void take(std::string_view line);
  /// In the order of what was wanted.
  [[nodiscard]] const std::vector<device_names>& found() const noexcept { return found_; }

 private:
  void take_top(std::string_view line);
  void take_second(std::string_view line);
  void take_third(std::string_view line);

  std::vector<identity> wanted_;
  std::vector<device_names> found_;
  // Below which entries the lines are now.
  bool in_classes_ = false;
  std::optional<std::uint32_t> top_;
  std::optional<std::uint32_t> second_;
};

/// Names from the machine's pci.ids, in one pass; all empty when it has none.
[[nodiscard]] std::vector<device_names> find_names(const file_tree& files,
                                                   std::span<const identity> wanted);

}  // namespace runnel::pci
