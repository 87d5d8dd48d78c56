#pragma once

#include <chrono>
#include <cstddef>
#include <vector>

#include "mempool/base/error.h"
#include "mempool/base/units.h"

namespace runnel::bench {

struct echo_cores {
  core_id caller;
  core_id answerer;
};

/// Microseconds for two bare processes, each asleep in epoll on a core of its own, to wake one
/// another and back by an eventfd. A first I/O beats that only where its answer comes before perf
/// falls asleep again. Like perf, the caller wakes before a trip is due, from when the trip counts.
/// @param silence  from one trip's end to the next one's start
/// @error os, timed_out
/// @context control thread of a process with no other; takes as long as all silences
[[nodiscard]] outcome<std::vector<double>> sleeping_echo_us(const echo_cores& cores,
                                                            std::chrono::milliseconds silence,
                                                            std::size_t trips);

}  // namespace runnel::bench
