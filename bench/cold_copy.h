#pragma once

#include "mempool/base/error.h"

namespace runnel::bench {

enum class direction { out_of_memory, into_memory };

/// Nanoseconds one core needs to copy a 4 KiB block between a small buffer and a random place in
/// 256 MiB, the better of cached and streaming stores: what no disk in memory can beat.
/// @param core  it runs pinned there
/// @context control thread; takes about 0.1 s and, once per process, the memory
[[nodiscard]] outcome<double> cold_copy_ns(unsigned core, direction which);

}  // namespace runnel::bench
