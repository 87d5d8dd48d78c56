#pragma once

#include "mempool/base/error.h"

namespace runnel::bench {

enum class direction { out_of_memory, into_memory };

/// Whether other copies are under way: `alone`, nothing hides the time that the first bytes take to
/// come; `in_a_row`, blocks are fetched while those before them are copied.
enum class company { alone, in_a_row };

struct cold_copy {
  direction which = direction::out_of_memory;
  company with = company::in_a_row;
};

/// Nanoseconds one core needs to copy a 4 KiB block between a small buffer in its cache and a
/// random place in 256 MiB, by the best of our kernels: what no disk in memory can beat. Alone,
/// from the first load until the last store has left for the cache, as a completion that follows
/// would see.
/// @param core  it runs pinned there
/// @context control thread; takes about 0.1 s and, once per process, the memory
[[nodiscard]] outcome<double> cold_copy_ns(unsigned core, const cold_copy& what);

}  // namespace runnel::bench
