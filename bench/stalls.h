#pragma once

#include <utility>
#include <vector>

#include "mempool/base/error.h"

// What the machine itself does to a tail: cores that stand still for a while, since the host or the
// kernel runs something else there.
namespace runnel::bench {

struct stall {
  double from_us;
  double to_us;
};

/// When two cores stood still that had nothing to do but look at the clock.
struct stalls {
  double seconds = 0;        // how long they were looked at
  std::vector<stall> found;  // of either core, from 1 us on, in order

  /// The latency that one request of a thousand exceeds when a server with no tail of its own works
  /// on these cores at `load` (below 1) of its rate, in us: what comes during a stall waits for its
  /// end, and what comes after it for the backlog, which shrinks by 1 - load.
  [[nodiscard]] double p999_us(double load) const;
};

/// Both cores at once, by spinning threads. @error os @context control thread
[[nodiscard]] outcome<stalls> measure_stalls(const std::pair<unsigned, unsigned>& cores,
                                             double seconds);

}  // namespace runnel::bench
