#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "apps/perf/session.h"
#include "drivers/block.h"
#include "mempool/region.h"
#include "runtime/reactor.h"
#include "runtime/wait.h"

namespace runnel::perf {

/// The workload on a queue's own submit and poll, without coroutines: a source of the reactor.
/// @context one core; allocates at construction only
class raw_loop {
 public:
  /// @param memory  io_bytes for each I/O in flight
  raw_loop(session& work, block_queue& queue, const segment& memory, std::uint32_t depth,
           reactor& core);

  [[nodiscard]] source as_source() noexcept;
  /// Set when nothing is under way and nothing more is to be started.
  [[nodiscard]] event& ended() noexcept { return ended_; }

 private:
  static constexpr std::size_t burst = 32;

  struct slot {
    planned_io io;
    instant started{};
    segment data;
  };

  std::uint32_t poll() noexcept;
  std::uint32_t start_more() noexcept;
  [[nodiscard]] bool prepare(block_request& request) noexcept;
  void submit(std::span<block_request> requests) noexcept;
  void finish(std::uint32_t index, block_status status) noexcept;

  session& work_;
  block_queue& queue_;
  std::array<block_request, burst> requests_;
  std::array<block_completion, burst> completions_;
  std::vector<slot> slots_;
  std::vector<std::uint32_t> free_;  // slots with no I/O
  std::vector<std::uint32_t>
      planned_;  // slots whose I/O has no start yet: its time or room is missing
  event ended_;
};

}  // namespace runnel::perf
