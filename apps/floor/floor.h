#pragma once

#include <cstdint>
#include <string>

#include "mempool/base/error.h"

// What the machine itself allows between two cores: the honest floor under every two-core figure.
namespace runnel::floor {

/// Two cores and how far apart they are right now. On shared machines this changes every few
/// minutes, so it is measured beside every figure it is used to judge.
enum class placement : std::uint8_t { near, far };

/// @param cycles  of a cache line there and back
[[nodiscard]] placement placement_of(double cycles) noexcept;

struct ping_pong_result {
  double cycles = 0;  // TSC cycles for one cache line to go there and back, median
  placement state = placement::near;
};

/// A word in one cache line bounced between two pinned threads.
/// @error os (a core that cannot be pinned) @context control thread; takes about 10 ms
[[nodiscard]] outcome<ping_pong_result> ping_pong(unsigned core_a, unsigned core_b);

struct echo_result {
  double ns_per_io = 0;  // median over the rounds
  std::uint64_t ios = 0;
  std::uint64_t preemptions = 0;  // involuntary switches of either thread while measuring
};

/// The bare echo: NVMe-shaped submission entries (64 bytes), doorbells and completion entries
/// (16 bytes, phase tag last) in shared memory between two pinned threads, and no work at all. The
/// initiator rings every 8, 16 or 32 entries, with and without prefetching: the best of these.
/// @param seconds  for all of them together
/// @param depth  commands in flight, 1..1024
[[nodiscard]] outcome<echo_result> bare_echo(unsigned initiator_core, unsigned target_core,
                                             std::uint32_t depth, double seconds);

/// The frequency governor of a core, "none" where there is none (virtual machines).
[[nodiscard]] std::string governor(unsigned core);

}  // namespace runnel::floor
