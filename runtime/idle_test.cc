// Goal: a core gets idle by steps, learns when a sleep does not pay, and uses what its processor
// has. Method: the ladder is told of work and time; processors are tables of CPUID words.

#include "runtime/idle.h"

#include <gtest/gtest.h>

#include "runtime/nap.h"

namespace runnel {
namespace {

using namespace std::chrono_literals;

constexpr idle_options ladder_options{.pause_after = 10us,
                                      .nap_after = 30us,
                                      .sleep_after_min = 100us,
                                      .sleep_after_max = 400us,
                                      .retry_after = 50us};

/// A core without work: how long until it may sleep, from the turn that last found some.
struct idle_core {
  idle_ladder ladder{ladder_options};
  instant now{1s};

  idle_rung after(nanoseconds time) {
    now += time;
    return ladder.next(false, now);
  }
  void work() { EXPECT_EQ(ladder.next(true, now), idle_rung::spin); }
  nanoseconds until_sleep() {
    nanoseconds waited{0};
    while (after(1us) != idle_rung::sleep) {
      waited += 1us;
    }
    return waited + 1us;
  }
  void sleep_for(nanoseconds duration) {
    now += duration;
    ladder.slept(duration);
  }
};

TEST(IdleLadder, ACoreWithoutWorkGoesDownRungByRung) {
  idle_core core;
  core.work();
  EXPECT_EQ(core.after(9us), idle_rung::spin);
  EXPECT_EQ(core.after(1us), idle_rung::pause);
  EXPECT_EQ(core.after(20us), idle_rung::nap);
  EXPECT_EQ(core.after(69us), idle_rung::nap);
  EXPECT_EQ(core.after(1us), idle_rung::sleep);
}

TEST(IdleLadder, AnyWorkLeadsBackToTheTop) {
  idle_core core;
  core.work();
  EXPECT_EQ(core.after(1ms), idle_rung::sleep);
  core.work();
  EXPECT_EQ(core.after(9us), idle_rung::spin);
}

TEST(IdleLadder, WakingUpForNothingLeavesItAsleep) {
  idle_core core;
  core.work();
  for (int wakes = 0; wakes < 3; ++wakes) {
    EXPECT_EQ(core.after(1ms), idle_rung::sleep);
    core.sleep_for(1ms);
  }
}

TEST(IdleLadder, ShortSleepsAreAvoidedUpToABoundAndLongOnesBringThemBack) {
  idle_core core;
  core.work();
  for (const nanoseconds expected : {100us, 200us, 400us, 400us}) {
    EXPECT_EQ(core.until_sleep(), expected);
    core.sleep_for(399us);
    core.work();
  }
  for (const nanoseconds expected : {400us, 200us, 100us, 100us}) {
    EXPECT_EQ(core.until_sleep(), expected);
    core.sleep_for(400us);
    core.work();
  }
}

TEST(IdleLadder, ASleepInPiecesIsAsLongAsTheyAreTogether) {
  idle_core core;
  core.work();
  EXPECT_EQ(core.until_sleep(), 100us);
  for (int pieces = 0; pieces < 4; ++pieces) {
    core.sleep_for(100us);
    EXPECT_EQ(core.after(0us), idle_rung::sleep);
  }
  core.work();
  EXPECT_EQ(core.until_sleep(), 100us);
}

TEST(IdleLadder, ACoreThatMayNotSleepPausesAndAsksNowAndThen) {
  idle_core core;
  core.work();
  EXPECT_EQ(core.after(100us), idle_rung::sleep);
  core.ladder.refused(core.now);
  EXPECT_EQ(core.after(49us), idle_rung::pause);
  EXPECT_EQ(core.after(1us), idle_rung::sleep);
}

cpuid_words old_processor(std::uint32_t, std::uint32_t) noexcept {
  return {};
}
cpuid_words processor_with_waitpkg(std::uint32_t leaf, std::uint32_t subleaf) noexcept {
  return {.ecx = leaf == 7 && subleaf == 0 ? 1U << 5U : 0U};
}
cpuid_words processor_with_monitorx(std::uint32_t leaf, std::uint32_t) noexcept {
  return {.ecx = leaf == 0x80000001 ? 1U << 29U : 0U};
}
cpuid_words processor_with_other_features(std::uint32_t leaf, std::uint32_t subleaf) noexcept {
  const bool here = (leaf == 7 && subleaf == 0) || leaf == 0x80000001;
  return {.ebx = ~0U, .ecx = here ? ~(1U << 5U | 1U << 29U) : ~0U, .edx = ~0U};
}

TEST(Nap, IsTheBestThatTheProcessorSaysItHas) {
  EXPECT_EQ(find_nap(old_processor), nap_kind::pause);
  EXPECT_EQ(find_nap(processor_with_waitpkg), nap_kind::tpause);
  EXPECT_EQ(find_nap(processor_with_monitorx), nap_kind::mwaitx);
  EXPECT_EQ(find_nap(processor_with_other_features), nap_kind::pause);
}

TEST(Nap, OfThisProcessorEnds) {
  nap(find_nap(this_cpuid));
}

}  // namespace
}  // namespace runnel
