#pragma once

#include <string>

#include "mempool/base/error.h"
#include "mempool/base/unique_fd.h"

namespace runnel::doctor {

/// What is in a file of a kernel's package, as a file in memory: a module, plain or packed by
/// xz or zstd; or the kernel itself, which a boot image carries packed. Other files are as they
/// are.
/// @error os; protocol: it cannot be unpacked, or is too large to be one of those
/// @spec Linux/x86 Boot Protocol 2.08: setup_sects, HdrS, payload_offset, payload_length
[[nodiscard]] outcome<unique_fd> unpack_kernel_file(const std::string& path);

}  // namespace runnel::doctor
