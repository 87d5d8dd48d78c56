#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "drivers/block.h"
#include "mempool/base/error.h"

namespace runnel::soft {

/// A disk that checks requests like any other and moves no data: reads leave memory as it was,
/// writes are forgotten. For measuring all that lies above. Requests finish in place.
/// @param address  as the user gave it, for messages and `block_info`
/// @error invalid (size and block size do not fit together)
[[nodiscard]] outcome<std::unique_ptr<block_device>> open_null(std::string address,
                                                               std::uint64_t bytes,
                                                               std::uint32_t block_bytes);

}  // namespace runnel::soft
