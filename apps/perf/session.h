#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "apps/perf/options.h"
#include "apps/perf/report.h"
#include "apps/perf/verify.h"
#include "apps/perf/workload.h"
#include "drivers/block.h"
#include "mempool/base/clock.h"
#include "runtime/reactor.h"
#include "runtime/thread.h"

namespace runnel::perf {

/// One I/O that is about to be made, or under way.
struct planned_io {
  std::uint64_t slot = 0;
  instant intended{};  // when it should start; latency counts from here
  instant turn{};      // the stamp it was started by: a later one has seen its end
  bool is_write = false;
};

/// The part of the namespace one core works on, in slots of `io_bytes`.
struct slot_range {
  std::uint64_t first = 0;
  std::uint64_t count = 0;
};

/// Decides what one core does next and keeps its measurement: fill (only with --verify), warm-up,
/// then the interval that counts. The same for coroutines and for the raw loop.
/// @context one core; nothing here allocates after construction
class session {
 public:
  /// @param clock  the one the core's reactor runs by
  /// @context the core's thread
  session(const options& asked, const block_info& device, const slot_range& slots, reactor& core,
          const clock_source& clock);

  /// Begins the warm-up, or the fill. @context the core, before anything else
  void begin() noexcept;

  /// The next I/O to start, with its data prepared in `data`. Its intended start may lie in the
  /// future. @return false: there is nothing more to start now (`finished()` tells whether ever)
  [[nodiscard]] bool plan(planned_io& io, std::span<std::byte> data) noexcept;

  /// It starts now. @return when by its own clock; the intended start when there is a rate
  [[nodiscard]] instant start(planned_io& io) const noexcept;

  /// Whose I/Os end before the reactor looks at the clock does it in their turn.
  void stamp() noexcept { own_stamp_ = clock_.now(); }
  /// When this turn began.
  [[nodiscard]] instant turn() const noexcept { return asked_.raw ? own_stamp_ : core_.now(); }
  [[nodiscard]] bool is_paced() const noexcept { return interval_ps_ != 0; }

  /// An I/O ended.
  void finish(const planned_io& io, instant started, const result<>& ended,
              std::span<const std::byte> data) noexcept;

  /// A planned I/O is not made after all.
  void withdraw(const planned_io& io) noexcept;

  [[nodiscard]] bool finished() const noexcept { return phase_ == phase::over; }
  [[nodiscard]] lba block_of(const planned_io& io) const noexcept {
    return lba{io.slot * blocks_per_slot_};
  }
  [[nodiscard]] std::uint32_t blocks_per_slot() const noexcept { return blocks_per_slot_; }

  /// What was measured. @pre no I/O is under way
  [[nodiscard]] core_result take_result() noexcept;

  /// Marks the slots of the measured I/Os, which are drawn again for it: the first 2^26.
  /// @pre the result was taken
  void mark_touched(std::vector<bool>& slots) const noexcept;

 private:
  enum class phase : std::uint8_t { fill, warm_up, measure, over };

  [[nodiscard]] bool plan_other(planned_io& io, std::span<std::byte> data) noexcept;
  void finish_other(const planned_io& io, instant started, const result<>& ended,
                    std::span<const std::byte> data, instant when) noexcept;
  [[nodiscard]] instant now() const noexcept { return precise_ ? clock_.now() : turn(); }
  [[nodiscard]] instant end_of_one_started_in(instant turn) noexcept;
  void set_start(planned_io& io) noexcept;
  void enter(phase next, instant when) noexcept;
  void pass_time(instant when) noexcept;
  [[nodiscard]] std::optional<io_choice> choose() noexcept;
  void check(const planned_io& io, result<> ended, std::span<const std::byte> data) noexcept;
  void count_error(error what) noexcept;
  void stop(instant when) noexcept;

  const options& asked_;
  reactor& core_;
  const clock_source& clock_;
  bool precise_;  // few I/Os in flight: read the clock for each, a burst has no common time
  bool plain_;    // data neither checked nor touched: what is measured is the device
  std::uint32_t blocks_per_slot_;
  slot_range slots_;
  workload workload_;
  workload measured_;  // as it was when the interval that counts began
  std::unique_ptr<verifier> verifier_;
  phase phase_;
  instant phase_end_ = never;
  std::uint64_t interval_ps_ = 0;  // between intended starts; 0: closed loop
  std::uint64_t due_ps_ = 0;       // the next one, from the first on
  instant first_intended_{};
  std::uint64_t filled_ = 0;
  std::uint64_t in_flight_ = 0;
  instant own_stamp_{};
  instant last_end_{};             // the next I/O begins when one ends
  std::uint64_t touched_sum_ = 0;  // keeps --touch from being optimised away

  instant measure_start_{};
  reactor_stats stats_at_start_;
  std::uint64_t allocations_at_start_ = 0;
  off_core_clock off_core_;
  nanoseconds off_core_at_start_{};
  std::unique_ptr<core_result> result_;
};

// What a plain I/O needs is inline: it is part of every figure. So is a look at the clock, which
// takes 9 ns; the turn's own serves wherever it is as exact.

inline bool session::plan(planned_io& io, std::span<std::byte> data) noexcept {
  if (!plain_ || turn() >= phase_end_) [[unlikely]] {
    return plan_other(io, data);
  }
  const io_choice choice = workload_.next();
  io.slot = slots_.first + choice.slot;
  io.is_write = choice.is_write;
  set_start(io);
  ++in_flight_;
  return true;
}

/// In an open loop, at its place in a row that does not depend on how long others took.
inline void session::set_start(planned_io& io) noexcept {
  constexpr std::uint64_t ps_per_ns = 1'000;
  if (interval_ps_ != 0) {
    io.intended = first_intended_ + nanoseconds{static_cast<std::int64_t>(due_ps_ / ps_per_ns)};
    due_ps_ += interval_ps_;
  }
}

inline instant session::start(planned_io& io) const noexcept {
  io.turn = turn();
  if (interval_ps_ != 0 && phase_ != phase::fill) {
    return io.intended;
  }
  return plain_ ? std::max(last_end_, io.turn) : now();
}

/// One that waited has ended when this turn began, for that is when its completion was found; one
/// that ended in place has ended now, however long ago it should have started.
inline instant session::end_of_one_started_in(instant started_in) noexcept {
  last_end_ = started_in < turn() ? turn() : clock_.now();
  return last_end_;
}

inline void session::finish(const planned_io& io, instant started, const result<>& ended,
                            std::span<const std::byte> data) noexcept {
  const instant when = plain_ ? end_of_one_started_in(io.turn) : now();
  if (!plain_ || !ended || when >= phase_end_) [[unlikely]] {
    finish_other(io, started, ended, data, when);
    return;
  }
  --in_flight_;
  if (phase_ == phase::measure) [[likely]] {
    result_->latency.record(static_cast<std::uint64_t>((when - started).count()));
  }
}

}  // namespace runnel::perf
