// Goal: work that blocks runs on another thread while its core goes on, and its result comes back.
// Method: an engine; work that waits for something that only the core can do.
#include "runtime/offload.h"

#include <gtest/gtest.h>
#include <sched.h>
#include <unistd.h>

#include <atomic>
#include <memory>
#include <semaphore>

#include "runtime/engine.h"

namespace runnel {
namespace {

task<int> wait_for_the_core(offloader& threads, reactor& core) {
  std::binary_semaphore go{0};
  gate helpers{core};
  const auto let_go = [](std::binary_semaphore& which) -> task<> {
    which.release();
    co_return;
  };
  helpers.spawn(let_go(go));
  const int answer = co_await offload(threads, [&go] {
    go.acquire();  // for ever, if the core waited too
    return 42;
  });
  co_await helpers.close();
  co_return answer;
}

TEST(Offload, TheCoreGoesOnWhileTheWorkBlocks) {
  const auto host = engine::create({});
  ASSERT_TRUE(host) << host.error().message();
  offloader& threads = (*host)->elsewhere();
  EXPECT_EQ((*host)->run(0, [&](reactor& core) { return wait_for_the_core(threads, core); }), 42);
}

task<bool> look_at_threads(offloader& threads) {
  const pid_t mine = gettid();
  pid_t other = mine;
  co_await offload(threads, [&other] { other = gettid(); });
  co_return other != mine&& gettid() == mine;
}

TEST(Offload, TheWorkRunsOnAnotherThreadAndTheTaskDoesNotMove) {
  const auto host = engine::create({});
  ASSERT_TRUE(host) << host.error().message();
  offloader& threads = (*host)->elsewhere();
  EXPECT_TRUE((*host)->run(0, [&](reactor&) { return look_at_threads(threads); }));
}

task<int> many(offloader& threads, reactor& core) {
  int sum = 0;
  gate all{core};
  const auto one = [](offloader& where, int number, int& total) -> task<> {
    total += co_await offload(where, [number] { return number; });
  };
  for (int i = 1; i <= 1000; ++i) {  // more than the core's inlet holds
    all.spawn(one(threads, i, sum));
  }
  co_await all.close();
  co_return sum;
}

TEST(Offload, ManyAtOnceAllComeBack) {
  const auto host = engine::create({});
  ASSERT_TRUE(host) << host.error().message();
  offloader& threads = (*host)->elsewhere();
  EXPECT_EQ((*host)->run(0, [&](reactor& core) { return many(threads, core); }), 500'500);
}

TEST(Offload, WorkThatWaitsIsDoneBeforeTheThreadsEnd) {
  std::atomic<int> done = 0;
  {
    const core_id core{static_cast<unsigned>(sched_getcpu())};
    offloader threads{{&core, 1}};
    for (int i = 0; i < 100; ++i) {
      threads.enqueue([](void* count) noexcept { ++*static_cast<std::atomic<int>*>(count); },
                      &done);
    }
  }
  EXPECT_EQ(done, 100);
}

TEST(Offload, AnotherThreadStartsForWorkThatFindsNoneFree) {
  const core_id core{static_cast<unsigned>(sched_getcpu())};
  std::binary_semaphore go{0};
  offloader threads{{&core, 1}, 2};
  threads.enqueue([](void* sign) noexcept { static_cast<std::binary_semaphore*>(sign)->acquire(); },
                  &go);
  threads.enqueue([](void* sign) noexcept { static_cast<std::binary_semaphore*>(sign)->release(); },
                  &go);  // for ever, if it had to wait for the first
}

TEST(Offload, ItIsIdleWhenAllWorkHasEnded) {
  const core_id core{static_cast<unsigned>(sched_getcpu())};
  std::binary_semaphore go{0};
  offloader threads{{&core, 1}};
  EXPECT_TRUE(threads.wait_until_idle(nanoseconds{0}));
  threads.enqueue([](void* sign) noexcept { static_cast<std::binary_semaphore*>(sign)->acquire(); },
                  &go);
  EXPECT_FALSE(threads.wait_until_idle(nanoseconds{0}));
  go.release();
  EXPECT_TRUE(threads.wait_until_idle(std::chrono::seconds{10}));
}

}  // namespace
}  // namespace runnel
