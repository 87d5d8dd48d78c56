#pragma once

#include <cstdint>

namespace runnel::perf {

/// Heap allocations and memory maps this thread has made so far: malloc and its relatives, new,
/// mmap. Counted because the program replaces these functions; 0 cost where nobody allocates.
[[nodiscard]] std::uint64_t allocations_of_this_thread() noexcept;

}  // namespace runnel::perf
