// Goal: no timer fires early, late by more than a tick, twice or never, however far away it is.
// Method: a wheel driven by hand, beside a plain sorted list as the model.

#include "runtime/timer_wheel.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <random>
#include <vector>

namespace runnel {
namespace {

constexpr nanoseconds tick{1024};

instant at(std::int64_t nanoseconds_since_start) {
  return instant{nanoseconds{nanoseconds_since_start}};
}

struct probe : timer {
  probe() : timer{[](timer& self) noexcept { ++static_cast<probe&>(self).fired; }} {}
  int fired = 0;
};

void run_to(timer_wheel& wheel, instant now) {
  wheel.advance(now);
  while (timer* const due = wheel.pop_due()) {
    due->fire();
  }
}

TEST(TimerWheel, FiresOnceAndNotBeforeTheDeadline) {
  timer_wheel wheel{at(0)};
  probe one;
  wheel.set(one, at(10'000));
  EXPECT_LE(wheel.next_deadline(), at(10'000) + tick);
  run_to(wheel, at(9'999));
  EXPECT_EQ(one.fired, 0);
  run_to(wheel, at(10'000) + tick);
  EXPECT_EQ(one.fired, 1);
  EXPECT_FALSE(one.armed());
  run_to(wheel, at(1'000'000'000));
  EXPECT_EQ(one.fired, 1);
  EXPECT_EQ(wheel.next_deadline(), never);
}

TEST(TimerWheel, ADeadlineInThePastIsDueAtOnce) {
  timer_wheel wheel{at(5'000'000)};
  probe one;
  wheel.set(one, at(1));
  EXPECT_LE(wheel.next_deadline(), at(5'000'000));
  run_to(wheel, at(5'000'000));
  EXPECT_EQ(one.fired, 1);
}

TEST(TimerWheel, CancelledTimersDoNotFireEvenWhenDue) {
  timer_wheel wheel{at(0)};
  probe first;
  probe second;
  wheel.set(first, at(5'000));
  wheel.set(second, at(5'000));
  wheel.cancel(first);
  wheel.cancel(first);  // once more does nothing
  wheel.advance(at(1'000'000));
  wheel.cancel(second);
  EXPECT_EQ(wheel.pop_due(), nullptr);
  EXPECT_EQ(first.fired + second.fired, 0);
  EXPECT_EQ(wheel.next_deadline(), never);
}

TEST(TimerWheel, ATimerSetAgainHasOnlyItsNewDeadline) {
  timer_wheel wheel{at(0)};
  probe one;
  wheel.set(one, at(5'000));
  wheel.set(one, at(50'000'000));
  run_to(wheel, at(49'000'000));
  EXPECT_EQ(one.fired, 0);
  run_to(wheel, at(50'002'000));
  EXPECT_EQ(one.fired, 1);
}

TEST(TimerWheel, ATimerMaySetItselfWhenItFires) {
  static timer_wheel* wheel_of_probe = nullptr;
  struct repeating : timer {
    repeating()
        : timer{[](timer& self) noexcept {
            ++static_cast<repeating&>(self).fired;
            wheel_of_probe->set(self, at(0));
          }} {}
    int fired = 0;
  };
  timer_wheel wheel{at(0)};
  wheel_of_probe = &wheel;
  repeating again;
  wheel.set(again, at(0));
  run_to(wheel, at(0));
  EXPECT_EQ(again.fired, 1) << "a past deadline waits for the next advance: no endless loop";
  run_to(wheel, at(0));
  EXPECT_EQ(again.fired, 2);
  wheel.cancel(again);
}

TEST(TimerWheel, TheLastInstantThereIsCanBeADeadline) {
  timer_wheel wheel{at(1)};
  probe one;
  wheel.set(one, never - nanoseconds{1});
  run_to(wheel, at(std::int64_t{1} << 60));
  EXPECT_EQ(one.fired, 0);
  run_to(wheel, never);
  wheel.cancel(one);
}

TEST(TimerWheel, JumpingFromDeadlineToDeadlineReachesAllInOrder) {
  timer_wheel wheel{at(0)};
  std::vector<std::unique_ptr<probe>> probes;
  std::vector<instant> deadlines;
  for (std::int64_t distance = 1; distance < std::int64_t{1} << 50; distance *= 3) {
    probes.push_back(std::make_unique<probe>());
    deadlines.push_back(at(distance));
    wheel.set(*probes.back(), deadlines.back());
  }
  int steps = 0;
  while (wheel.next_deadline() != never) {
    ASSERT_LT(++steps, 1000);
    const instant now = wheel.next_deadline();
    run_to(wheel, now);
    for (std::size_t index = 0; index < probes.size(); ++index) {
      ASSERT_EQ(probes[index]->fired, deadlines[index] <= now ? 1 : 0) << index;
    }
  }
}

TEST(TimerWheel, AgreesWithASortedListOverRandomSetsCancelsAndSteps) {
  constexpr std::uint32_t seed = 20261121;
  RecordProperty("seed", static_cast<int>(seed));
  std::mt19937_64 random{seed};
  timer_wheel wheel{at(0)};
  std::array<probe, 64> probes;
  std::array<instant, 64> deadlines;
  deadlines.fill(never);
  instant now = at(0);
  for (int step = 0; step < 100'000; ++step) {
    const std::size_t index = random() % probes.size();
    switch (random() % 4) {
      case 0:
        wheel.cancel(probes[index]);
        deadlines[index] = never;
        break;
      case 1:
      case 2: {
        const auto distance = static_cast<std::int64_t>(random() >> (24 + random() % 40));
        deadlines[index] = now + nanoseconds{distance};
        wheel.set(probes[index], deadlines[index]);
        break;
      }
      default:
        now += nanoseconds{static_cast<std::int64_t>(random() >> (30 + random() % 34))};
        run_to(wheel, now);
        for (std::size_t each = 0; each < probes.size(); ++each) {
          if (probes[each].fired != 0) {
            ASSERT_EQ(probes[each].fired, 1);
            ASSERT_LE(deadlines[each], now) << "early";
            deadlines[each] = never;
            probes[each].fired = 0;
          }
          ASSERT_TRUE(deadlines[each] == never || deadlines[each] + tick > now) << "late";
        }
    }
  }
  for (probe& each : probes) {
    wheel.cancel(each);
  }
}

}  // namespace
}  // namespace runnel
