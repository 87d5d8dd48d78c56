#pragma once

#include <optional>
#include <string>

#include "drivers/pci/device.h"
#include "drivers/pci/writer.h"

// Takes devices from their drivers for VFIO, and gives them back.
namespace runnel::pci {

/// Which driver a device had before it was taken: a file for each device, in a folder that is empty
/// after a boot.
class old_drivers {
 public:
  /// @param folder  as in `file_tree`; its parent exists
  old_drivers(const file_tree& files, std::string folder);

  [[nodiscard]] result<> remember(writer& writes, const device& which) const;
  void forget(writer& writes, const device& which) const;
  /// Its name, empty for none. No value: nothing is known of this device.
  [[nodiscard]] std::optional<std::string> recall(const device& which) const;

 private:
  [[nodiscard]] std::string path_of(const device& which) const;

  const file_tree& files_;
  std::string folder_;
};

/// Takes a device from its driver and gives it to vfio-pci, by `driver_override`. When that fails
/// on the way, the driver gets it back. @pre check_bindable, and it has another driver
/// @error os, timed_out
[[nodiscard]] outcome<> bind(writer& writes, const old_drivers& memory, const device& which);

/// Takes a device from vfio-pci and gives it to the driver that it had, or whichever matches.
/// @pre it is vfio-pci's, or nobody's
/// @error os; timed_out: a process has it open and keeps it, which the hint names
[[nodiscard]] outcome<> unbind(const file_tree& files, writer& writes, const old_drivers& memory,
                               const device& which);

}  // namespace runnel::pci
