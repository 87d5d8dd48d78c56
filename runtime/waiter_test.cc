// Goal: a core that waits wakes for a readable fd, for an interrupt and for its deadline, and not
// otherwise. Method: the epoll waiter on eventfds; waits are short and their ends are checked by
// a clock, never by sleeping.

#include "runtime/waiter.h"

#include <gtest/gtest.h>
#include <sys/eventfd.h>

#include <array>
#include <thread>

#include "mempool/base/unique_fd.h"

namespace runnel {
namespace {

using namespace std::chrono_literals;

struct WaiterTest : testing::Test {
  std::unique_ptr<waiter> world = std::move(*make_epoll_waiter());
  unique_fd fd{eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)};
  std::array<void*, 4> readable{};
  tsc_clock clock;

  std::size_t look() { return world->wait(instant{}, instant{}, readable); }
};

TEST_F(WaiterTest, ReportsTheTokenWhileTheFdIsReadable) {
  int token = 0;
  ASSERT_TRUE(world->watch(fd.get(), &token));
  EXPECT_EQ(look(), 0U);
  ASSERT_EQ(eventfd_write(fd.get(), 1), 0);
  ASSERT_EQ(look(), 1U);
  EXPECT_EQ(readable[0], &token);
  EXPECT_EQ(look(), 1U) << "still readable";
  eventfd_t value = 0;
  ASSERT_EQ(eventfd_read(fd.get(), &value), 0);
  EXPECT_EQ(look(), 0U);
}

TEST_F(WaiterTest, ForgetsAnFdEvenAfterItWasClosed) {
  ASSERT_TRUE(world->watch(fd.get(), this));
  const int number = fd.get();
  world->forget(number);
  ASSERT_EQ(eventfd_write(number, 1), 0);
  EXPECT_EQ(look(), 0U);
  fd.reset();
  world->forget(number);
  EXPECT_FALSE(world->watch(number, this)) << "a closed fd cannot be watched";
}

TEST_F(WaiterTest, WaitsUntilTheDeadlineIsNear) {
  const instant start = clock.now();
  EXPECT_EQ(world->wait(start, start + 3ms, readable), 0U);
  EXPECT_GE(clock.now() - start, 2900us - waking_takes) << "the two clocks differ a little";
}

TEST_F(WaiterTest, AnInterruptFromAnotherThreadEndsAWaitWithoutDeadline) {
  std::thread other{[this] { world->interrupt(); }};
  EXPECT_EQ(world->wait(instant{}, never, readable), 0U);
  other.join();
}

TEST_F(WaiterTest, AnInterruptBeforeTheWaitIsNotLostAndCountsOnce) {
  world->interrupt();
  world->interrupt();
  EXPECT_EQ(world->wait(instant{}, never, readable), 0U);
  const instant start = clock.now();
  EXPECT_EQ(world->wait(start, start + 1ms, readable), 0U);
  EXPECT_GE(clock.now() - start, 900us);
}

}  // namespace
}  // namespace runnel
