#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "apps/target/namespace.h"

namespace runnel::target {

/// What the controllers of one target have in common. Built once, then only read.
struct subsystem {
  std::string nqn;                                // at most 223 bytes
  std::string serial;                             // at most 20
  std::string model = "Runnel NVMe target";       // at most 40
  std::string firmware;                           // at most 8
  std::vector<exported_namespace> namespaces;     // namespace id = index + 1
  std::uint32_t transfer_bytes_max = 128 * 1024;  // a power of two of at least one page
  bool volatile_cache = false;                    // of any namespace
};

}  // namespace runnel::target
