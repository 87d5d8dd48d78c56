#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "drivers/block.h"
#include "mempool/base/error.h"

namespace runnel::soft {

/// A disk in memory of its own, zeroed, huge pages where there are any. Requests finish in place.
/// Any number of queues on any cores; two requests in flight at once on the same block are as
/// undefined as on any disk.
/// @param address  as the user gave it, for messages and `block_info`
/// @error invalid (size and block size do not fit together), no_memory, os
/// @context control thread; touches all of the memory
[[nodiscard]] outcome<std::unique_ptr<block_device>> open_ram(std::string address,
                                                              std::uint64_t bytes,
                                                              std::uint32_t block_bytes);

}  // namespace runnel::soft
