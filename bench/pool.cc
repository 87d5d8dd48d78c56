// Claim: taking a buffer from our pool and giving it back costs half of what it costs with DPDK's
// mempool at its best, which is from a registered thread with a cache; a batch of 32 costs less
// too. One core; nobody touches the buffers.

#include <fmt/format.h>

#include <array>
#include <cstddef>

#include "bench/contest.h"
#include "bench/need.h"
#include "bench/pool_kinds.h"
#include "runtime/cores.h"

namespace runnel::bench {
namespace {

/// One at a time as a packet or an I/O takes its buffer, or 32 as a receive queue is filled.
template <std::size_t Batch>
contest get_and_put(core_id core, double owed_ratio_max) {
  contestant ours = timed<our_pool, Batch>(fmt::format("buffer_pool, get, put of {}", Batch), core);
  ours.owed_ratio_max = owed_ratio_max;
  return {.unit = "cycles", .ours = {ours}, .peers = {timed_mempool<Batch>(core)}};
}

int run(int argc, char** argv) {
  const core_id core = need(allowed_cores()).back();
  const mempool_environment environment{core};
  const std::array contests{get_and_put<1>(core, 0.5), get_and_put<32>(core, 0.9)};
  return run_contests({.title = "pools, one core, per buffer", .contests = contests}, {argc, argv});
}

}  // namespace
}  // namespace runnel::bench

int main(int argc, char** argv) {
  return runnel::bench::run(argc, argv);
}
