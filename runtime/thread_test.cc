// Goal: what a thread waited for its core is told. Method: two threads that share one.

#include "runtime/thread.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <chrono>

#include "runtime/cores.h"

namespace runnel {
namespace {

using steady = std::chrono::steady_clock;

struct rivals {
  std::atomic<bool> done{false};
  nanoseconds waited{0};
};

void wait_for_the_core(void* context) noexcept {
  auto& self = *static_cast<rivals*>(context);
  const auto deadline = steady::now() + std::chrono::seconds{20};
  const off_core_clock off_core;
  const nanoseconds before = off_core.read();
  while (self.waited.count() == 0 && steady::now() < deadline) {
    self.waited = off_core.read() - before;
  }
  self.done = true;
}

void want_it_too(void* context) noexcept {
  while (!static_cast<rivals*>(context)->done) {
  }
}

TEST(Thread, TimeForWhichOthersHadItsCoreIsTold) {
  if (::access("/proc/thread-self/schedstat", R_OK) != 0) {
    GTEST_SKIP() << "this kernel does not tell";
  }
  const core_id core{allowed_cores()->front()};
  rivals both;
  {
    const auto rival = pinned_thread::start({&core, 1}, "rival", want_it_too, &both);
    const auto waiter = pinned_thread::start({&core, 1}, "waiter", wait_for_the_core, &both);
    ASSERT_TRUE(rival && waiter);
  }
  EXPECT_GT(both.waited.count(), 0);
}

}  // namespace
}  // namespace runnel
