#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "apps/target/namespace.h"
#include "drivers/block.h"
#include "mempool/base/clock.h"

namespace runnel::target {

/// What the controllers of one target have in common. Built once, then only read.
struct subsystem {
  std::string nqn;                                 // at most 223 bytes
  std::string serial;                              // at most 20
  std::string model = "Runnel NVMe target";        // at most 40
  std::string firmware;                            // at most 8
  std::vector<exported_namespace> namespaces;      // namespace id = index + 1
  std::uint32_t transfer_bytes_max = 128 * 1024;   // a power of two of at least one page
  bool volatile_cache = false;                     // of any namespace
  block_op_set operations = all_block_operations;  // of all namespaces

  const clock_source* clock = nullptr;  // outlives it; null: time stands still
  instant powered_on{};

  [[nodiscard]] instant now() const noexcept { return clock != nullptr ? clock->now() : instant{}; }
  [[nodiscard]] nanoseconds time_on() const noexcept { return now() - powered_on; }

  /// One more namespace; the others make room for what it cannot do.
  void add(block_device& device, const namespace_identity& identity) {
    namespaces.push_back({&device, identity});
    volatile_cache |= device.info().volatile_cache;
    operations &= device.info().operations;
  }
};

}  // namespace runnel::target
