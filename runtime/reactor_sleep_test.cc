// Goal: an adaptive core sleeps when nothing is left to do, and nothing that comes meanwhile is
// lost. Method: one simulated core that turns and rests; sources, services, timers and posts that
// come at every point of falling asleep; two cores that message each other.

#include <gtest/gtest.h>
#include <sys/eventfd.h>

#include <functional>
#include <utility>

#include "mempool/base/unique_fd.h"
#include "runtime/engine.h"
#include "runtime/on.h"
#include "runtime/reactor.h"
#include "tests/sim/core.h"

namespace runnel {
namespace {

using namespace std::chrono_literals;

/// A source that counts, and does what a test tells it at each step.
struct sleeping_source {
  bool can_be_armed = true;
  bool kernel_brings = false;
  std::uint32_t polls = 0;
  std::uint32_t found = 0;  // by the next poll
  std::uint32_t arms = 0;
  bool armed = false;
  std::function<void()> when_armed = [] {};

  [[nodiscard]] source as_source() noexcept {
    return {
        .poll =
            [](void* context) noexcept {
              auto& self = *static_cast<sleeping_source*>(context);
              ++self.polls;
              return std::exchange(self.found, 0);
            },
        .context = this,
        .name = "sleeping source",
        .arm =
            [](void* context) noexcept {
              auto& self = *static_cast<sleeping_source*>(context);
              ++self.arms;
              self.armed = self.can_be_armed;
              self.when_armed();
              return self.can_be_armed;
            },
        .disarm =
            [](void* context) noexcept { static_cast<sleeping_source*>(context)->armed = false; },
        .kernel_brings = kernel_brings};
  }
};

reactor_options adaptive() {
  reactor_options options;
  options.poll = poll_mode::adaptive;
  return options;
}

struct ReactorSleepTest : testing::Test {
  sim::core core{adaptive()};
  sleeping_source device;
  timer alarm{[](timer&) noexcept {}};

  void SetUp() override {
    core.loop.add_source(device.as_source());
    core.loop.set_timer(alarm, core.clock.now() + 1h);
  }
  void TearDown() override {
    core.loop.cancel_timer(alarm);
    core.loop.remove_source(&device);
  }
  [[nodiscard]] std::uint64_t sleeps() const { return core.loop.stats().sleeps; }
  /// A turn, after `time`, and the rest that follows when it found nothing.
  bool turn_after(nanoseconds time) {
    core.clock.advance_to(core.clock.now() + time);
    const bool found = core.loop.turn();
    if (!found) {
      core.loop.rest();
    }
    return found;
  }
  /// Long enough idle that the next rest may be a sleep.
  void idle() {
    device.found = 1;
    EXPECT_TRUE(turn_after(1us));
    EXPECT_FALSE(turn_after(1us));
  }
};

TEST_F(ReactorSleepTest, AnIdleCoreSleepsUntilItsNextDeadline) {
  idle();
  const instant deadline = core.clock.now() + 1s;
  core.loop.set_timer(alarm, deadline);
  EXPECT_EQ(sleeps(), 0U);
  EXPECT_FALSE(turn_after(100us));
  EXPECT_EQ(sleeps(), 1U);
  EXPECT_FALSE(device.armed);
  const std::uint32_t polls = device.polls;
  while (alarm.armed()) {
    EXPECT_FALSE(turn_after(10us));
  }
  EXPECT_LT(device.polls - polls, 100U);  // the wheel has it wake a few times on the way
  EXPECT_GE(core.clock.now(), deadline);
  core.loop.set_timer(alarm, core.clock.now() + 1h);
}

TEST_F(ReactorSleepTest, ACoreThatFindsWorkNowAndThenStaysAwake) {
  for (int burst = 0; burst < 20; ++burst) {
    device.found = 1;
    EXPECT_TRUE(turn_after(50us));
    EXPECT_FALSE(turn_after(1us));
    EXPECT_FALSE(turn_after(40us));
  }
  EXPECT_EQ(sleeps(), 0U);
}

TEST_F(ReactorSleepTest, ACoreForWhichOnlyTheKernelFindsWorkSleepsBetweenTwoPieces) {
  sleeping_source file{.kernel_brings = true};
  core.loop.add_source(file.as_source());
  idle();
  EXPECT_FALSE(turn_after(100us));
  for (std::uint64_t pieces = 1; pieces <= 20; ++pieces) {
    EXPECT_EQ(sleeps(), pieces);
    core.loop.set_timer(alarm, core.clock.now() + 1h);  // a sleep here takes until its deadline
    file.found = 1;
    EXPECT_TRUE(turn_after(1us));
    EXPECT_FALSE(turn_after(1us));
  }
  device.found = 1;  // this was found by looking
  EXPECT_TRUE(turn_after(1us));
  file.found = 1;
  EXPECT_TRUE(turn_after(98us));
  EXPECT_FALSE(turn_after(1us));
  EXPECT_EQ(sleeps(), 21U);
  core.loop.remove_source(&file);
}

TEST_F(ReactorSleepTest, ABusyCoreNeverArmsAnything) {
  sim::core busy;
  sleeping_source source;
  busy.loop.add_source(source.as_source());
  for (int turns = 0; turns < 10; ++turns) {
    busy.clock.advance_to(busy.clock.now() + 1ms);
    EXPECT_FALSE(busy.loop.turn());
    busy.loop.rest();
  }
  EXPECT_EQ(source.arms, 0U);
  busy.loop.remove_source(&source);
}

TEST_F(ReactorSleepTest, WhatASourceFindsAfterItWasArmedIsNotSleptOver) {
  idle();
  device.when_armed = [this] { device.found = 1; };
  EXPECT_FALSE(turn_after(100us));
  EXPECT_EQ(sleeps(), 0U);
  EXPECT_EQ(device.found, 0U);  // it was polled once more
  EXPECT_FALSE(device.armed);
  device.when_armed = [] {};
  EXPECT_FALSE(turn_after(99us));  // and that was work: it begins anew
  EXPECT_EQ(sleeps(), 0U);
}

TEST_F(ReactorSleepTest, APostThatComesWhileSourcesAreArmedIsNotSleptOver) {
  idle();
  bool called = false;
  device.when_armed = [this, &called] {
    EXPECT_TRUE(
        core.loop.post([](void* flag) noexcept { *static_cast<bool*>(flag) = true; }, &called));
  };
  EXPECT_FALSE(turn_after(100us));
  EXPECT_EQ(sleeps(), 0U);
  device.when_armed = [] {};
  EXPECT_TRUE(turn_after(0us));
  EXPECT_TRUE(called);
}

TEST_F(ReactorSleepTest, WhoIsToldToStopDoesNotSleepFirst) {
  idle();
  device.when_armed = [this] { core.loop.request_stop(); };
  EXPECT_FALSE(turn_after(100us));
  EXPECT_EQ(sleeps(), 0U);
}

TEST_F(ReactorSleepTest, ADescriptorThatWasReadableBeforeEndsTheSleepAtOnce) {
  const unique_fd bell{eventfd(0, EFD_NONBLOCK)};
  service listening{[](void* fd, instant) noexcept {
                      eventfd_t value = 0;
                      (void)eventfd_read(static_cast<const unique_fd*>(fd)->get(), &value);
                      return never;
                    },
                    const_cast<unique_fd*>(&bell), bell.get(), "bell"};
  ASSERT_TRUE(core.loop.add_service(listening));
  idle();
  device.when_armed = [&bell] { ASSERT_EQ(eventfd_write(bell.get(), 1), 0); };
  const instant before = core.clock.now();
  EXPECT_FALSE(turn_after(100us));
  EXPECT_EQ(core.clock.now(), before + 100us);
  device.when_armed = [] {};
  EXPECT_TRUE(turn_after(0us));  // what a descriptor brought is work
  core.loop.remove_service(listening);
}

TEST_F(ReactorSleepTest, ASourceThatCannotBeArmedNowKeepsTheCoreAwake) {
  device.can_be_armed = false;
  idle();
  for (int turns = 0; turns < 10; ++turns) {
    EXPECT_FALSE(turn_after(100us));
  }
  EXPECT_EQ(sleeps(), 0U);
  EXPECT_GT(device.arms, 1U);  // it is asked again
  device.can_be_armed = true;
  EXPECT_FALSE(turn_after(100us));
  EXPECT_EQ(sleeps(), 1U);
}

TEST_F(ReactorSleepTest, ASourceThatCanNeverBeArmedIsNamed) {
  source sleepless{[](void*) noexcept { return 0U; }, &alarm, "sleepless"};
  core.loop.add_source(sleepless);
  idle();
  EXPECT_FALSE(turn_after(100us));
  EXPECT_STREQ(core.loop.stats().kept_awake_by, "") << "it may have been a moment's";
  EXPECT_FALSE(turn_after(100ms));
  EXPECT_EQ(sleeps(), 0U);
  EXPECT_STREQ(core.loop.stats().kept_awake_by, "sleepless");
  core.loop.remove_source(&alarm);
}

TEST_F(ReactorSleepTest, NobodySleepsJustBeforeADeadline) {
  idle();
  core.loop.set_timer(alarm, core.clock.now() + 140us);
  EXPECT_FALSE(turn_after(100us));
  EXPECT_EQ(sleeps(), 0U);
}

task<int> echo(int value) {
  co_return value;
}

/// Asks the other core again and again, each time after both have been idle for a while.
task<int> ask_sleepers(reactor& here, reactor& other) {
  int sum = 0;
  for (int round = 1; round <= 20; ++round) {
    const result<> waited = co_await here.sleep_for(1ms);
    const auto there = [round](reactor&) { return echo(round); };
    const int answer = co_await on(other, there);
    sum += waited ? answer : 0;
  }
  co_return sum;
}

TEST(ReactorSleep, MessagesWakeCoresThatSleep) {
  engine_options wanted;
  wanted.cores = {core_id{0}, core_id{1}};
  wanted.window_bytes = 2 * mib;
  wanted.poll = poll_mode::adaptive;
  auto made = engine::create(std::move(wanted));
  if (!made) {
    GTEST_SKIP() << made.error().message();
  }
  engine& host = **made;
  auto asking = host.start(0, [&host](reactor& core) { return ask_sleepers(core, host.core(1)); });
  EXPECT_TRUE(asking.wait_for(10s));
  EXPECT_EQ(asking.get(), 210);
  std::uint64_t sleeps = 0;
  host.call(1, [&] { sleeps = host.core(1).stats().sleeps; });
  EXPECT_GT(sleeps, 10U);
}

}  // namespace
}  // namespace runnel
