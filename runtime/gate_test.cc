// Goal: spawned tasks are owned: a gate knows when all have ended, and can make them end by
// resuming their waits with an error. Method: tasks that wait in every way there is, on a simulated
// core.

#include "runtime/gate.h"

#include <gtest/gtest.h>

#include <utility>
#include <vector>

#include "tests/sim/core.h"

namespace runnel {
namespace {

using namespace std::chrono_literals;

struct GateTest : testing::Test {
  sim::core core;
  gate tasks{core.loop};
  event happened{core.loop};
  std::vector<errc> ends;

  bool run_until_empty() {
    return core.run_until([this] { return tasks.size() == 0; }, 10'000);
  }
};

task<> sleep(reactor& loop, nanoseconds duration, std::vector<errc>& ends) {
  const auto slept = co_await loop.sleep_for(duration);
  ends.push_back(slept ? errc::ok : slept.error().code);
}

task<> wait_for(event& what, instant deadline, std::vector<errc>& ends) {
  const auto waited = co_await what.wait(deadline);
  ends.push_back(waited ? errc::ok : waited.error().code);
}

task<> yield_for_ever(reactor& loop, std::vector<errc>& ends) {
  for (;;) {
    const auto yielded = co_await loop.yield();
    if (!yielded) {
      ends.push_back(yielded.error().code);
      co_return;
    }
  }
}

TEST_F(GateTest, TasksStartInOrderAndAreCountedUntilTheyEnd) {
  tasks.spawn(sleep(core.loop, 2ms, ends));
  tasks.spawn(sleep(core.loop, 1ms, ends));
  EXPECT_EQ(tasks.size(), 2U);
  core.run_for(1500us);
  EXPECT_EQ(tasks.size(), 1U);
  core.run_for(1ms);
  EXPECT_EQ(tasks.size(), 0U);
  EXPECT_EQ(ends, (std::vector{errc::ok, errc::ok}));
}

TEST_F(GateTest, CancellingEndsEveryKindOfWait) {
  tasks.spawn(sleep(core.loop, 1h, ends));
  tasks.spawn(wait_for(happened, core.clock.now() + 1h, ends));
  tasks.spawn(wait_for(happened, never, ends));
  tasks.spawn(yield_for_ever(core.loop, ends));  // and so no time passes
  core.loop.turn();
  core.loop.turn();
  EXPECT_EQ(tasks.size(), 4U);
  tasks.cancel();
  EXPECT_TRUE(tasks.cancelled());
  ASSERT_TRUE(run_until_empty());
  EXPECT_LT(core.clock.now(), instant{1s});
  EXPECT_EQ(ends, std::vector(4, errc::cancelled));
}

TEST_F(GateTest, OnlyTheTasksOfTheCancelledGateAreTouched) {
  gate others{core.loop};
  std::vector<errc> other_ends;
  others.spawn(sleep(core.loop, 5ms, other_ends));
  tasks.spawn(sleep(core.loop, 5ms, ends));
  core.run_for(1ms);
  tasks.cancel();
  core.run_for(1ms);
  EXPECT_EQ(ends, std::vector{errc::cancelled});
  EXPECT_EQ(others.size(), 1U);
  core.run_for(5ms);
  EXPECT_EQ(other_ends, std::vector{errc::ok});
}

task<> nested_sleep(reactor& loop, std::vector<errc>& ends) {
  co_await sleep(loop, 1h, ends);
  co_await sleep(loop, 1h, ends);  // stubborn: it waits again
}

TEST_F(GateTest, CancellationReachesAwaitedChildrenAndWaitsBegunAfterIt) {
  tasks.spawn(nested_sleep(core.loop, ends));
  core.run_for(1ms);
  tasks.cancel();
  ASSERT_TRUE(run_until_empty());
  EXPECT_EQ(ends, std::vector(2, errc::cancelled));
}

TEST_F(GateTest, ATaskSpawnedIntoACancelledGateIsCancelledAtItsFirstWait) {
  tasks.cancel();
  tasks.spawn(sleep(core.loop, 1h, ends));
  ASSERT_TRUE(run_until_empty());
  EXPECT_EQ(ends, std::vector{errc::cancelled});
}

task<> close_and_note(gate& which, bool& closed) {
  co_await which.close();
  closed = true;
}

TEST_F(GateTest, CloseWaitsForTheLastTask) {
  gate closers{core.loop};
  bool closed = false;
  tasks.spawn(sleep(core.loop, 1ms, ends));
  tasks.spawn(sleep(core.loop, 3ms, ends));
  closers.spawn(close_and_note(tasks, closed));
  core.run_for(2ms);
  EXPECT_FALSE(closed);
  core.run_for(2ms);
  EXPECT_TRUE(closed);
  EXPECT_EQ(closers.size(), 0U);
}

TEST_F(GateTest, ClosingAnEmptyGateDoesNotWait) {
  gate closers{core.loop};
  bool closed = false;
  closers.spawn(close_and_note(tasks, closed));
  core.loop.turn();
  EXPECT_TRUE(closed);
}

task<> parent_of_sleeper(reactor& loop, std::vector<errc>& ends) {
  gate children{loop};
  children.spawn(sleep(loop, 1h, ends));
  co_await children.close();
}

TEST_F(GateTest, CancellingATaskThatClosesItsOwnGateCancelsThatGateToo) {
  tasks.spawn(parent_of_sleeper(core.loop, ends));
  core.run_for(1ms);
  tasks.cancel();
  ASSERT_TRUE(run_until_empty());
  EXPECT_EQ(ends, std::vector{errc::cancelled});
}

task<> cancel_own_gate(gate& own, reactor& loop, std::vector<errc>& ends) {
  own.cancel();
  co_await sleep(loop, 1h, ends);
}

TEST_F(GateTest, ATaskMayCancelItsOwnGate) {
  tasks.spawn(cancel_own_gate(tasks, core.loop, ends));
  ASSERT_TRUE(run_until_empty());
  EXPECT_EQ(ends, std::vector{errc::cancelled});
}

TEST(GateDeathTest, DroppingAGateWithTasksIsABug) {
  EXPECT_DEATH(
      {
        sim::core core;
        std::vector<errc> ends;
        gate tasks{core.loop};
        tasks.spawn(sleep(core.loop, 1h, ends));
      },
      "CHECK failed");
}

}  // namespace
}  // namespace runnel
