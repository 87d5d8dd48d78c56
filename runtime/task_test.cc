// Goal: awaiting a task is as cheap on the stack as calling a function, in every build, and its
// frame comes from and returns to the core that runs it. Method: tasks run by a simulated core.

#include "runtime/task.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>

#include "runtime/gate.h"
#include "tests/sim/core.h"

namespace runnel {
namespace {

struct TaskTest : testing::Test {
  sim::core core;
  gate tasks{core.loop};

  void run(task<> work) {
    tasks.spawn(std::move(work));
    ASSERT_TRUE(core.run_until([this] { return tasks.size() == 0; }));
  }
};

task<int> one() {
  co_return 1;
}

task<int> one_later(reactor& loop) {
  (void)co_await loop.yield();
  co_return 1;
}

task<> add_up(int times, int& sum) {
  for (int count = 0; count < times; ++count) {
    sum += co_await one();
  }
}

task<> add_up_later(reactor& loop, int times, int& sum) {
  for (int count = 0; count < times; ++count) {
    sum += co_await one_later(loop);
  }
}

TEST_F(TaskTest, AMillionAwaitsOfAChildThatNeverWaitsKeepTheStackFlat) {
  int sum = 0;
  run(add_up(1'000'000, sum));
  EXPECT_EQ(sum, 1'000'000);
}

TEST_F(TaskTest, AMillionAwaitsOfAChildThatWaitsKeepTheStackFlat) {
  int sum = 0;
  tasks.spawn(add_up_later(core.loop, 1'000'000, sum));
  ASSERT_TRUE(core.run_until([this] { return tasks.size() == 0; }, 4'000'000));
  EXPECT_EQ(sum, 1'000'000);
}

TEST_F(TaskTest, NothingRunsBeforeItIsAwaitedOrSpawned) {
  int sum = 0;
  {
    const task<> never_awaited = add_up(3, sum);
  }
  EXPECT_EQ(sum, 0);
  run(add_up(3, sum));
  EXPECT_EQ(sum, 3);
}

task<std::unique_ptr<std::string>> make_text(reactor& loop, bool later) {
  if (later) {
    (void)co_await loop.yield();
  }
  co_return std::make_unique<std::string>("text");
}

task<result<int>> fail_later(reactor& loop) {
  (void)co_await loop.yield();
  co_return fail(errc::device_gone);
}

task<> collect(reactor& loop, std::string& out) {
  auto now = co_await make_text(loop, false);
  out += *now;
  auto later = co_await make_text(loop, true);
  out += *later;
  const auto failed = co_await fail_later(loop);
  out += failed.error().code == errc::device_gone ? " gone" : " wrong";
}

TEST_F(TaskTest, ResultsMayBeMoveOnlyAndErrors) {
  std::string out;
  run(collect(core.loop, out));
  EXPECT_EQ(out, "texttext gone");
}

struct counted {
  explicit counted(int& count) noexcept : live{&count} { ++*live; }
  counted(counted&& other) noexcept : live{other.live} { ++*live; }
  counted& operator=(counted&&) = delete;
  counted(const counted&) = delete;
  counted& operator=(const counted&) = delete;
  ~counted() { --*live; }
  int* live;
};

task<int> consume(reactor& loop, counted taken) {
  (void)co_await loop.yield();
  co_return *taken.live;
}

task<> hand_over(reactor& loop, int& live, int& seen) {
  counted owned{live};
  task<int> child = consume(loop, std::move(owned));
  seen = co_await std::move(child);
}

TEST_F(TaskTest, OwnedArgumentsLiveExactlyAsLongAsTheirFrames) {
  int live = 0;
  int seen = 0;
  run(hand_over(core.loop, live, seen));
  EXPECT_GE(seen, 1);
  EXPECT_EQ(live, 0);
}

TEST_F(TaskTest, FramesComeFromTheCoresSlabAndAreUsedAgain) {
  int sum = 0;
  run(add_up(1000, sum));
  run(add_up_later(core.loop, 1000, sum));
  // The first frame of each run is made outside the core; children are made by it.
  EXPECT_EQ(core.loop.frames().heap_frames(), 0U);
  EXPECT_EQ(core.loop.frames().frames_in_use(), 0U);
}

TEST(FrameSlab, GivesBackTheFrameThatWasFreedLast) {
  frame_slab slab{4096};
  void* const first = frame_slab::allocate(&slab, 100);
  void* const second = frame_slab::allocate(&slab, 100);
  EXPECT_NE(first, second);
  EXPECT_EQ(slab.frames_in_use(), 2U);
  frame_slab::release(first);
  EXPECT_EQ(frame_slab::allocate(&slab, 90), first);
  frame_slab::release(second);
  frame_slab::release(first);
  EXPECT_EQ(slab.frames_in_use(), 0U);
  EXPECT_EQ(slab.heap_frames(), 0U);
}

TEST(FrameSlab, TheHeapHelpsOutWhenTheArenaIsSpentOrAFrameIsHuge) {
  frame_slab slab{256};
  void* const fits = frame_slab::allocate(&slab, 200);
  void* const does_not = frame_slab::allocate(&slab, 200);
  void* const huge = frame_slab::allocate(&slab, 100'000);
  EXPECT_EQ(slab.heap_frames(), 2U);
  frame_slab::release(does_not);
  frame_slab::release(huge);
  EXPECT_EQ(slab.frames_in_use(), 1U);
  frame_slab::release(fits);
}

TEST(FrameSlab, WithoutACoreFramesComeFromTheHeap) {
  int sum = 0;
  const task<> work = add_up(1, sum);  // freed with it; the leak checker looks on
  EXPECT_EQ(reactor::current(), nullptr);
}

TEST(TaskDeathTest, DroppingATaskThatWaitsIsABug) {
  EXPECT_DEATH(
      {
        sim::core core;
        gate tasks{core.loop};
        int sum = 0;
        auto child = std::make_unique<task<>>(add_up_later(core.loop, 1, sum));
        struct drop {
          static task<> await(task<>& which) { co_await std::move(which); }
        };
        tasks.spawn(drop::await(*child));
        core.loop.turn();
        child.reset();
      },
      "CHECK failed");
}

}  // namespace
}  // namespace runnel
