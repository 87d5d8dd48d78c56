#include "apps/perf/session.h"

#include <algorithm>
#include <cstring>

#include "apps/perf/allocation_count.h"
#include "mempool/base/check.h"

namespace runnel::perf {
namespace {

// Beyond this a burst's common time stamp is exact enough, and reading the clock would show.
constexpr std::uint32_t precise_depth_max = 4;

constexpr std::uint64_t ps_per_second = 1'000'000'000'000;

std::uint64_t sum_of(std::span<const std::byte> data) noexcept {
  std::uint64_t sum = 0;
  for (std::size_t at = 0; at + sizeof sum <= data.size(); at += sizeof sum) {
    std::uint64_t word = 0;
    std::memcpy(&word, &data[at], sizeof word);
    sum += word;
  }
  return sum;
}

}  // namespace

session::session(const options& asked, const block_info& device, const slot_range& slots,
                 reactor& core, const clock_source& clock)
    : asked_{asked},
      core_{core},
      clock_{clock},
      precise_{asked.depth <= precise_depth_max},
      plain_{!asked.verify && !asked.touch},
      blocks_per_slot_{asked.io_bytes / device.block_bytes},
      slots_{slots},
      workload_{asked.rw, slots.count, 0, asked.seed + raw(core.core())},
      measured_{workload_},
      verifier_{asked.verify ? std::make_unique<verifier>(slots.first, slots.count,
                                                          device.block_bytes, asked.seed)
                             : nullptr},
      phase_{asked.verify ? phase::fill : phase::warm_up},
      result_{std::make_unique<core_result>()} {
  CHECK(slots.count > 0);
  if (asked.rate != 0) {
    const std::uint64_t cores = std::max<std::size_t>(1, asked.cores.size());
    interval_ps_ = ps_per_second * cores / asked.rate;
  }
  result_->core = raw(core.core());
}

void session::begin() noexcept {
  stamp();
  enter(phase_, now());
}

bool session::plan_other(planned_io& io, std::span<std::byte> data) noexcept {
  if (phase_ == phase::fill) {
    if (filled_ == slots_.count) {
      return false;
    }
    io.slot = slots_.first + filled_++;
    io.is_write = true;
    CHECK(verifier_->try_claim(io.slot));
  } else {
    pass_time(turn());
    if (phase_ == phase::over) {
      return false;
    }
    const std::optional<io_choice> choice = choose();
    if (!choice) {
      return false;
    }
    io.slot = choice->slot;
    io.is_write = choice->is_write;
    set_start(io);
  }
  if (io.is_write && verifier_ != nullptr) {
    verifier_->prepare_write(io.slot, data);
  }
  ++in_flight_;
  return true;
}

/// With --verify an I/O must not race another on its slot: one on which nothing is under way.
std::optional<io_choice> session::choose() noexcept {
  constexpr int tries_max = 64;
  for (int i = 0; i < tries_max; ++i) {
    io_choice choice = workload_.next();
    choice.slot += slots_.first;
    if (verifier_ == nullptr || verifier_->try_claim(choice.slot)) {
      return choice;
    }
  }
  return std::nullopt;
}

void session::finish_other(const planned_io& io, instant started, const result<>& ended,
                           std::span<const std::byte> data, instant when) noexcept {
  --in_flight_;
  if (verifier_ != nullptr) {
    check(io, ended, data);
  }
  if (asked_.touch && !io.is_write) {
    touched_sum_ += sum_of(data);
  }
  if (!ended) {
    count_error(ended.error());
    if (ended.error().code == errc::device_gone) {
      stop(when);
      return;
    }
  }
  if (phase_ == phase::fill) {
    if (filled_ == slots_.count && in_flight_ == 0) {
      enter(phase::warm_up, when);
    }
    return;
  }
  pass_time(when);
  if (phase_ == phase::measure) {
    result_->latency.record(
        static_cast<std::uint64_t>(std::max<std::int64_t>(0, (when - started).count())));
  }
}

void session::withdraw(const planned_io& io) noexcept {
  --in_flight_;
  if (verifier_ != nullptr) {
    verifier_->release(io.slot);
  }
}

void session::check(const planned_io& io, result<> ended,
                    std::span<const std::byte> data) noexcept {
  if (io.is_write) {
    if (ended) {
      verifier_->acknowledge(io.slot);
    } else {
      verifier_->forget(io.slot);
    }
  } else if (ended && !verifier_->matches(io.slot, data)) {
    ++result_->mismatches;
  }
  verifier_->release(io.slot);
}

/// Errors of the warm-up count too: a run with errors is no good run.
void session::count_error(error what) noexcept {
  ++result_->errors;
  if (result_->first_error.code == errc::ok) {
    result_->first_error = what;
  }
}

/// Nothing will be done any more. What was measured until then counts.
void session::stop(instant when) noexcept {
  if (phase_ == phase::measure) {
    enter(phase::over, when);
  }
  phase_ = phase::over;
}

core_result session::take_result() noexcept {
  CHECK(in_flight_ == 0);
  result_->ios = result_->latency.count();
  return *result_;
}

void session::mark_touched(std::vector<bool>& slots) const noexcept {
  constexpr std::uint64_t drawn_max = std::uint64_t{1} << 26U;  // a fifth of a second
  workload again = measured_;
  for (std::uint64_t left = std::min(result_->ios, drawn_max); left != 0; --left) {
    slots[slots_.first + again.next().slot] = true;
  }
}

void session::enter(phase next, instant when) noexcept {
  phase_ = next;
  switch (next) {
    case phase::fill:
      break;
    case phase::warm_up:
      phase_end_ = when + asked_.warmup;
      first_intended_ = when;
      break;
    case phase::measure:
      phase_end_ = when + asked_.duration;
      measure_start_ = when;
      measured_ = workload_;
      stats_at_start_ = core_.stats();
      allocations_at_start_ = allocations_of_this_thread();
      off_core_at_start_ = off_core_.read();
      break;
    case phase::over: {
      const reactor_stats& stats = core_.stats();
      const nanoseconds busy = stats.busy_time - stats_at_start_.busy_time;
      result_->elapsed = when - measure_start_;
      result_->heap_allocations = allocations_of_this_thread() - allocations_at_start_;
      result_->off_core = off_core_.read() - off_core_at_start_;
      result_->busy_cycles = static_cast<std::uint64_t>(static_cast<double>(busy.count()) * 1e-9 *
                                                        static_cast<double>(tsc_hz()));
      result_->busy_turns = stats.busy_turns - stats_at_start_.busy_turns;
      result_->stamp_resolution = precise_ || result_->busy_turns == 0
                                      ? nanoseconds{1}
                                      : busy / static_cast<std::int64_t>(result_->busy_turns);
      break;
    }
  }
}

void session::pass_time(instant when) noexcept {
  if (when < phase_end_ || phase_ == phase::over) {
    return;
  }
  enter(phase_ == phase::warm_up ? phase::measure : phase::over, when);
}

}  // namespace runnel::perf
