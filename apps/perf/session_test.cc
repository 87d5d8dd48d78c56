// Goal: what perf calls latency is what a caller waits for: from the intended start in an open
// loop, to the end of the I/O, wherever in a turn either lies. Method: a clock that is moved by
// hand.

#include "apps/perf/session.h"

#include <gtest/gtest.h>

#include <chrono>
#include <vector>

#include "tests/sim/core.h"

namespace runnel::perf {
namespace {

using namespace std::chrono_literals;

options open_loop_of(std::uint64_t rate) {
  options asked;
  asked.depth = 32;  // beyond what the clock is read for I/O by I/O
  asked.warmup = 0s;
  asked.duration = 1s;
  asked.rate = rate;
  return asked;
}

/// A session whose measured interval has begun, and its clock.
struct measuring {
  explicit measuring(const options& wanted) : asked{wanted} {
    core.loop.turn();
    work.begin();
  }

  void pass(nanoseconds time) { core.clock.advance_to(core.clock.now() + time); }

  planned_io plan() {
    planned_io io;
    EXPECT_TRUE(work.plan(io, {}));
    return io;
  }

  nanoseconds only_latency() {
    pass(2s);
    core.loop.turn();
    work.stamp();
    planned_io none;
    EXPECT_FALSE(work.plan(none, {}));
    const core_result measured = work.take_result();
    EXPECT_EQ(measured.ios, 1U);
    return nanoseconds{static_cast<std::int64_t>(measured.latency.max())};
  }

  options asked;
  sim::core core;
  block_info device = [] {
    block_info made;
    made.block_bytes = 512;
    return made;
  }();
  session work{asked, device, {.first = 0, .count = 100}, core.loop, core.clock};
};

TEST(Session, AnIoOfAnOpenLoopThatEndsInItsTurnTookUntilItsEnd) {
  measuring run{open_loop_of(1'000)};
  planned_io io = run.plan();
  run.pass(2ms);  // the core was late
  run.core.loop.turn();
  const instant started = run.work.start(io);
  run.pass(300us);
  run.work.finish(io, started, {}, {});
  EXPECT_EQ(run.only_latency(), 2300us);
}

TEST(Session, AnIoThatWaitedEndedWhenTheTurnThatFoundItBegan) {
  measuring run{open_loop_of(1'000)};
  planned_io io = run.plan();
  const instant started = run.work.start(io);
  run.pass(50us);
  run.core.loop.turn();
  run.pass(300us);  // others are resumed first
  run.work.finish(io, started, {}, {});
  EXPECT_EQ(run.only_latency(), 50us);
}

TEST(Session, ARawIoEndedWhenThePollFoundItHoweverOldTheTurnsStampIs) {
  options asked = open_loop_of(1'000);
  asked.raw = true;
  measuring run{asked};
  planned_io io = run.plan();
  const instant started = run.work.start(io);
  run.pass(10us);
  run.core.loop.turn();
  run.pass(1ms);  // idle turns do not look at the clock
  run.work.stamp();
  run.work.finish(io, started, {}, {});
  EXPECT_EQ(run.only_latency(), 1010us);
}

TEST(Session, ADeviceThatGoesEndsTheRunAndWhatWasMeasuredUntilThenCounts) {
  measuring run{open_loop_of(0)};
  const planned_io done = run.plan();
  const planned_io lost = run.plan();
  const instant start = run.core.clock.now();
  run.pass(100ms);
  run.core.loop.turn();
  run.work.finish(done, start, {}, {});
  run.work.finish(lost, start, fail(errc::device_gone), {});
  EXPECT_TRUE(run.work.finished());
  const core_result measured = run.work.take_result();
  EXPECT_EQ(measured.ios, 1U);
  EXPECT_EQ(measured.errors, 1U);
  EXPECT_EQ(measured.elapsed, 100ms);
}

TEST(Session, ThePlacesOfTheMeasuredIosAreThoseThatWereDrawn) {
  options asked = open_loop_of(0);
  asked.warmup = 1s;
  measuring run{asked};
  std::vector<bool> drawn(100);
  for (int i = 0; i < 40; ++i) {
    if (i == 20) {
      run.pass(1s);  // the warm-up is over
      run.core.loop.turn();
    }
    planned_io io = run.plan();
    drawn[io.slot] = drawn[io.slot] || i >= 20;
    const instant started = run.work.start(io);
    run.work.finish(io, started, {}, {});
  }
  run.pass(2s);
  run.core.loop.turn();
  planned_io none;
  EXPECT_FALSE(run.work.plan(none, {}));
  (void)run.work.take_result();
  std::vector<bool> told(100);
  run.work.mark_touched(told);
  EXPECT_EQ(told, drawn);
}

}  // namespace
}  // namespace runnel::perf
