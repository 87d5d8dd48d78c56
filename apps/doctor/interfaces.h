#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "apps/doctor/machine.h"

namespace runnel::doctor {

/// A way to devices that a machine offers, or does not.
struct interface {
  std::string_view name;  // a scheme of addresses, or what `via=` of `pci:` takes
  bool works = false;     // apart from what is wrong with a single device
  std::string why;
};

/// All ways: those of the kernel's VFIO first, then those that need no device.
[[nodiscard]] std::vector<interface> list_interfaces(const machine& here);

}  // namespace runnel::doctor
