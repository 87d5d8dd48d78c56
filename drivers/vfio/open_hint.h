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

}  // namespace runnel::vfio
