#pragma once

#include <cerrno>
#include <string>

#include "mempool/base/error.h"

namespace runnel::vfio {

/// What to do about a node of a device or group that cannot be opened.
/// @param device  its address
[[nodiscard]] inline std::string open_hint(error what, const std::string& node,
                                           const std::string& device) {
  switch (what.code == errc::os ? static_cast<int>(what.detail) : 0) {
    case ENOENT:
      return "no " + node + ": run `runnel bind " + device + "`";
    case EACCES:
    case EPERM:
      return "give yourself " + node + ": its group or owner decides who may open it";
    case EBUSY:
      return "another process has " + node + " open, or it is still being closed";
    default:
      return node + " cannot be opened";
  }
}

/// What to do about an IOMMU that does not translate for a device.
[[nodiscard]] inline std::string iommu_hint(error what) {
  return what == error{errc::os, EPERM}
             ? "its interrupts cannot be told from others': the machine's IOMMU does not remap "
               "them. "
               "Who trusts the device sets allow_unsafe_interrupts=1 of vfio_iommu_type1, or of "
               "iommufd"
             : "is there an IOMMU, and on? see `intel_iommu=on` of the kernel's command line";
}

}  // namespace runnel::vfio
