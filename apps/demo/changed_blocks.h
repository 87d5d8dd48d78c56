#pragma once

#include <cstdint>
#include <string>

#include "mempool/base/error.h"

namespace runnel::demo {

/// Compares two files of equal length in blocks of 4 KiB and writes those that differ, from
/// `after`, to the same place of the disk at `address`; then flushes it.
/// @return blocks written
[[nodiscard]] outcome<std::uint64_t> write_changed_blocks(const std::string& before,
                                                          const std::string& after,
                                                          const std::string& address);

}  // namespace runnel::demo
