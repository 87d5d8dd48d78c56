// Claim: taking a buffer from our pool and giving it back costs half of what it costs with DPDK's
// mempool at its best, which is from a registered thread with a cache; a batch of 32 costs less
// too. One core; nobody touches the buffers.

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>

#include "bench/contest.h"
#include "bench/pool_kinds.h"
#include "runtime/cores.h"

namespace runnel::bench {
namespace {

/// One at a time, as a packet or an I/O takes its buffer.
contest single(core_id core) {
  return {.name = "get, put",
          .ours = timed<our_pool, 1>("buffer_pool", core),
          .peers = {timed_mempool<1>(core)},
          .owed_ratio_max = 0.5};
}

/// 32 at once, as a receive queue is filled.
contest bulk(core_id core) {
  return {.name = "get, put of 32",
          .ours = timed<our_pool, 32>("buffer_pool", core),
          .peers = {timed_mempool<32>(core)},
          .owed_ratio_max = 0.9};
}

int run(int argc, char** argv) {
  const core_id core = need(allowed_cores()).back();
  const mempool_environment environment{core};
  const std::array rows{single(core), bulk(core)};
  return run_contests({.title = "pools, one core, per buffer", .rows = rows}, argc, argv);
}

}  // namespace
}  // namespace runnel::bench

int main(int argc, char** argv) {
  return runnel::bench::run(argc, argv);
}
