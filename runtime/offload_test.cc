// Goal: work that blocks runs on another thread while its core goes on, and its result comes back.
// Method: an engine; work that waits for something that only the core can do.
#include "runtime/offload.h"

#include <gtest/gtest.h>
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

}  // namespace
}  // namespace runnel
