#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "drivers/vfio/syscalls.h"
#include "mempool/base/error.h"

namespace runnel::vfio {

inline constexpr std::size_t info_bytes_max = std::size_t{64} * 1024;

/// Asks an info ioctl with as much room as its answer takes: `fixed` names what is asked for and
/// its first word is the room (`argsz`), where the kernel says what it would have needed.
/// @return the structure with all that follows it
/// @error  os; protocol: it always wants more, or more than `info_bytes_max`
[[nodiscard]] result<std::vector<std::byte>> ask_info(syscalls& system, int fd,
                                                      unsigned long request,
                                                      std::span<const std::byte> fixed);

}  // namespace runnel::vfio
