// Goal: one can see what every task of a core waits for. Method: tasks that wait in different ways
// on a simulated core; then a real engine that is asked by a signal.

#include "runtime/task_report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <tuple>

#include "runtime/gate.h"
#include "tests/sim/core.h"

namespace runnel {
namespace {

using namespace std::chrono_literals;
using testing::ElementsAre;

task<> doze(reactor& loop) {
  static_cast<void>(co_await loop.sleep_for(1h));
}

task<> doze_inside(reactor& loop) {
  co_await doze(loop);
}

task<> wait_for_others(gate& others) {
  co_await others.close();
}

auto kind(const waiting_tasks& seen) {
  return std::tuple{std::string_view{seen.name}, std::string_view{seen.waits_for}, seen.depth,
                    seen.count};
}

struct TaskReport : testing::Test {
  sim::core core;
  gate sleepers{core.loop};
  gate closers{core.loop};

  ~TaskReport() override {
    sleepers.cancel();
    core.run_for(1ms);
  }
  /// Calls `f` in a turn: frames that are made outside of one come from the heap.
  template <class F>
  void inside(F f) {
    const auto call = [](void* context) noexcept { (*static_cast<F*>(context))(); };
    ASSERT_TRUE(core.loop.post(call, &f));
    (void)core.loop.turn();
  }
  auto kinds() const {
    std::vector<decltype(kind({}))> all;
    for (const waiting_tasks& each : waiting_on(core.loop)) {
      all.push_back(kind(each));
    }
    return all;
  }
};

TEST_F(TaskReport, TellsWhatEachTaskWaitsForAndCountsTheAlike) {
  inside([&] {
    sleepers.spawn(doze(core.loop), "sleeper");
    sleepers.spawn(doze(core.loop), "sleeper");
    closers.spawn(wait_for_others(sleepers), "closer");
  });
  EXPECT_THAT(kinds(), ElementsAre(std::tuple{"sleeper", "a time", 0U, 2U},
                                   std::tuple{"closer", "the tasks of a gate", 0U, 1U}));
}

TEST_F(TaskReport, OfTasksThatAwaitEachOtherTheLastIsTold) {
  inside([&] { sleepers.spawn(doze_inside(core.loop), "outer"); });
  EXPECT_THAT(kinds(), ElementsAre(std::tuple{"outer", "a time", 1U, 1U}));
}

TEST_F(TaskReport, TasksThatEndedOrNeverStartedAreNotSeen) {
  inside([&] {
    sleepers.spawn(doze(core.loop), "sleeper");
    const task<> never_started = doze(core.loop);
    EXPECT_THAT(kinds(), ElementsAre(std::tuple{"sleeper", "its first turn", 0U, 1U}));
  });
  core.run_for(2h);
  EXPECT_THAT(kinds(), ElementsAre());
}

}  // namespace
}  // namespace runnel
