// Goal: the order and the fairness of a turn: what is polled, fired, resumed and published, when,
// and how often. Method: a simulated core with sources, timers, services and tasks that write down
// what happens.

#include "runtime/reactor.h"

#include <gtest/gtest.h>
#include <sys/eventfd.h>

#include <array>
#include <string>
#include <thread>
#include <vector>

#include "mempool/base/unique_fd.h"
#include "runtime/gate.h"
#include "tests/sim/core.h"

namespace runnel {
namespace {

using namespace std::chrono_literals;

struct ReactorTest : testing::Test {
  sim::core core;
  gate tasks{core.loop};
  std::string trace;
};

/// A source that writes a letter, and does once what it is told.
struct scripted_source {
  std::string& trace;
  char letter;
  void (*once)(reactor& loop, scripted_source& self) = nullptr;
  std::uint32_t found = 0;
  scripted_source* other = nullptr;

  static std::uint32_t poll(void* context) noexcept {
    auto& self = *static_cast<scripted_source*>(context);
    self.trace += self.letter;
    if (auto* const action = std::exchange(self.once, nullptr)) {
      action(*reactor::current(), self);
    }
    return std::exchange(self.found, 0);
  }
  [[nodiscard]] source as_source() noexcept { return {poll, this, "scripted"}; }
};

task<> write(std::string& trace, char letter) {
  trace += letter;
  co_return;
}

TEST_F(ReactorTest, ATurnPollsThenFiresThenResumesThenPublishes) {
  struct marking : timer {
    explicit marking(std::string& into)
        : timer{[](timer& self) noexcept { static_cast<marking&>(self).trace += 't'; }},
          trace{into} {}
    std::string& trace;
  };
  marking alarm{trace};
  publisher queue{[](void* text) noexcept { *static_cast<std::string*>(text) += 'p'; }, &trace};
  scripted_source source{trace, 's'};
  source.found = 1;
  core.loop.mark(queue);
  core.loop.mark(queue);  // once more changes nothing
  tasks.spawn(write(trace, 'r'));
  core.loop.set_timer(alarm, core.clock.now());
  core.loop.add_source(source.as_source());
  EXPECT_TRUE(core.loop.turn());
  EXPECT_EQ(trace, "strp");
  EXPECT_FALSE(core.loop.turn());
  EXPECT_EQ(trace, "strps");
  core.loop.remove_source(&source);
}

TEST_F(ReactorTest, SourcesMayComeAndGoWhileTheyArePolled) {
  scripted_source first{trace, 'a'};
  scripted_source second{trace, 'b'};
  first.other = &second;
  first.once = [](reactor& loop, scripted_source& self) {
    loop.add_source(self.other->as_source());
    loop.remove_source(&self);
  };
  core.loop.add_source(first.as_source());
  core.loop.turn();
  EXPECT_EQ(trace, "ab");
  core.loop.turn();
  EXPECT_EQ(trace, "abb");
  core.loop.remove_source(&second);
  core.loop.turn();
  EXPECT_EQ(trace, "abb");
}

task<> write_and_yield(reactor& loop, std::string& trace, char letter, int times) {
  for (int count = 0; count < times; ++count) {
    trace += letter;
    (void)co_await loop.yield();
  }
}

TEST_F(ReactorTest, ATaskThatYieldsGoesOnInTheNextTurn) {
  tasks.spawn(write_and_yield(core.loop, trace, 'a', 2));
  tasks.spawn(write_and_yield(core.loop, trace, 'b', 2));
  core.loop.turn();
  EXPECT_EQ(trace, "ab");
  core.loop.turn();
  EXPECT_EQ(trace, "abab");
  core.loop.turn();
  EXPECT_EQ(tasks.size(), 0U);
}

task<> count_ready_waits(event& always, std::uint64_t& count, std::uint64_t limit) {
  while (count < limit) {
    const auto waited = co_await always.wait(never);
    if (!waited) {
      co_return;
    }
    ++count;
  }
}

TEST_F(ReactorTest, ALoopOfAwaitsThatAreAlwaysReadyIsCutByTheTurnsBudget) {
  event always{core.loop};
  always.set();
  std::uint64_t count = 0;
  tasks.spawn(count_ready_waits(always, count, 1'000'000));
  std::uint64_t before = 0;
  while (tasks.size() != 0) {
    core.loop.turn();
    ASSERT_LE(count - before, reactor::awaits_per_turn + 1);
    before = count;
  }
  EXPECT_EQ(count, 1'000'000U);
}

TEST_F(ReactorTest, ALoopOfAwaitsThatAreAlwaysReadyCanBeCancelled) {
  event always{core.loop};
  always.set();
  std::uint64_t count = 0;
  tasks.spawn(count_ready_waits(always, count, ~std::uint64_t{0}));
  core.loop.turn();
  tasks.cancel();
  EXPECT_TRUE(core.run_until([this] { return tasks.size() == 0; }, 10));
}

TEST_F(ReactorTest, ATurnResumesNoMoreTasksThanItsBudget) {
  for (std::uint32_t count = 0; count < reactor::awaits_per_turn + 10; ++count) {
    tasks.spawn(write(trace, 'x'));
  }
  core.loop.turn();
  EXPECT_EQ(trace.size(), reactor::awaits_per_turn);
  core.loop.turn();
  EXPECT_EQ(trace.size(), reactor::awaits_per_turn + 10);
}

task<> note_sleep(reactor& loop, nanoseconds duration, std::string& trace, char letter) {
  (void)co_await loop.sleep_for(duration);
  trace += letter;
}

TEST_F(ReactorTest, SleepersWakeInTheOrderOfTheirDeadlines) {
  tasks.spawn(note_sleep(core.loop, 30ms, trace, 'c'));
  tasks.spawn(note_sleep(core.loop, 10us, trace, 'a'));
  tasks.spawn(note_sleep(core.loop, 20ms, trace, 'b'));
  ASSERT_TRUE(core.run_until([this] { return tasks.size() == 0; }, 100));
  EXPECT_EQ(trace, "abc");
  EXPECT_GE(core.clock.now(), instant{30ms});
  EXPECT_LE(core.clock.now(), instant{30ms + 3us});
}

task<> await_event(event& what, instant deadline, std::string& trace) {
  const auto waited = co_await what.wait(deadline);
  trace += waited ? "s" : waited.error().code == errc::timed_out ? "d" : "?";
}

TEST_F(ReactorTest, AnEventWakesItsWaitersAndADeadlineTheRest) {
  event happens{core.loop};
  tasks.spawn(await_event(happens, instant{1ms}, trace));
  tasks.spawn(await_event(happens, instant{10ms}, trace));
  tasks.spawn(await_event(happens, never, trace));
  core.run_for(5ms);
  EXPECT_EQ(trace, "d");
  happens.set();
  core.run_for(1ms);
  EXPECT_EQ(trace, "dss");
  happens.reset();
  tasks.spawn(await_event(happens, core.clock.now() + 1ms, trace));
  core.run_for(2ms);
  EXPECT_EQ(trace, "dssd");
}

TEST_F(ReactorTest, CallsPostedByAnotherThreadRunOnTheCoreInOrder) {
  struct order {
    std::string& trace;
    char letter;
  };
  order first{trace, '1'};
  order second{trace, '2'};
  const auto run = [](void* context) noexcept {
    auto& self = *static_cast<order*>(context);
    self.trace += self.letter;
  };
  std::thread other{[&] {
    EXPECT_TRUE(core.loop.post(run, &first));
    EXPECT_TRUE(core.loop.post(run, &second));
  }};
  other.join();
  core.loop.turn();
  EXPECT_EQ(trace, "12");
}

TEST_F(ReactorTest, TheInletForForeignThreadsIsBounded) {
  int calls = 0;
  const auto count = [](void* context) noexcept { ++*static_cast<int*>(context); };
  for (std::size_t index = 0; index < reactor::posts_max; ++index) {
    ASSERT_TRUE(core.loop.post(count, &calls));
  }
  EXPECT_EQ(core.loop.post(count, &calls).error().code, errc::queue_full);
  core.loop.turn();
  EXPECT_EQ(calls, static_cast<int>(reactor::posts_max));
  EXPECT_TRUE(core.loop.post(count, &calls)) << "room again";
  core.loop.turn();
}

TEST_F(ReactorTest, RunTurnsUntilAnotherThreadStopsIt) {
  std::thread other{[this] { core.loop.request_stop(); }};
  core.loop.run();
  other.join();
  EXPECT_EQ(reactor::current(), nullptr);
}

struct counting_service {
  int calls = 0;
  int fd;
  instant next = never;
  service control;
  reactor* leave = nullptr;
  service* leaving = nullptr;  // goes with it

  explicit counting_service(int its_fd) : fd{its_fd}, control{advance, this, fd, "counting"} {}
  static instant advance(void* context, instant now) noexcept {
    auto& self = *static_cast<counting_service*>(context);
    ++self.calls;
    eventfd_t ignored = 0;
    (void)eventfd_read(self.fd, &ignored);  // fails when it is not readable
    if (self.leave != nullptr) {
      self.leave->remove_service(self.control);
      self.leave->remove_service(*self.leaving);
    }
    return self.next == never ? never : now + (self.next - instant{});
  }
};

TEST_F(ReactorTest, AServiceIsCalledAtTheDeadlineItReturned) {
  const unique_fd quiet{eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)};
  counting_service served{quiet.get()};
  served.next = instant{10ms};
  ASSERT_TRUE(core.loop.add_service(served.control));
  core.run_for(35ms);
  EXPECT_EQ(served.calls, 4) << "at once, then every 10 ms";
  core.loop.remove_service(served.control);
  core.run_for(35ms);
  EXPECT_EQ(served.calls, 4);
}

TEST_F(ReactorTest, AServiceIsCalledSoonAfterItsFdBecomesReadable) {
  const unique_fd fd{eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)};
  counting_service served{fd.get()};
  ASSERT_TRUE(core.loop.add_service(served.control));
  core.run_for(1ms);
  EXPECT_EQ(served.calls, 1);
  ASSERT_EQ(eventfd_write(fd.get(), 1), 0);
  core.run_for(40us);
  EXPECT_GE(served.calls, 2);
  core.loop.remove_service(served.control);
}

TEST_F(ReactorTest, AServiceWithoutAnFdIsCalledEveryPeriod) {
  counting_service served{-1};
  ASSERT_TRUE(core.loop.add_service(served.control));
  core.run_for(300us);
  EXPECT_GE(served.calls, 9);
  EXPECT_LE(served.calls, 12);
  core.loop.remove_service(served.control);
}

TEST_F(ReactorTest, AServiceIsWorkOnlyWhenItsFdWasReadable) {
  const unique_fd fd{eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)};
  counting_service watched{fd.get()};
  counting_service periodic{-1};
  ASSERT_TRUE(core.loop.add_service(watched.control));
  ASSERT_TRUE(core.loop.add_service(periodic.control));
  core.run_for(1ms);
  EXPECT_GT(periodic.calls, 20);
  EXPECT_EQ(core.loop.stats().busy_turns, 0U);
  ASSERT_EQ(eventfd_write(fd.get(), 1), 0);
  core.run_for(1ms);
  EXPECT_EQ(watched.calls, 2);
  EXPECT_EQ(core.loop.stats().busy_turns, 1U);
  core.loop.remove_service(watched.control);
  core.loop.remove_service(periodic.control);
}

TEST_F(ReactorTest, AServiceMayRemoveItselfAndAnotherThatIsReadableToo) {
  const std::array<unique_fd, 2> fds{unique_fd{eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)},
                                     unique_fd{eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)}};
  counting_service first{fds[0].get()};
  counting_service second{fds[1].get()};
  ASSERT_TRUE(core.loop.add_service(first.control));
  ASSERT_TRUE(core.loop.add_service(second.control));
  core.run_for(100us);
  ASSERT_EQ(first.calls + second.calls, 2);
  for (const unique_fd& each : fds) {
    ASSERT_EQ(eventfd_write(each.get(), 1), 0);
  }
  first.leave = &core.loop;
  first.leaving = &second.control;
  core.run_for(100us);
  EXPECT_EQ(first.calls, 2);
  EXPECT_EQ(second.calls, 1) << "removed by the first while it was due";
}

task<> take_long(virtual_clock& clock, nanoseconds time) {
  clock.advance_to(clock.now() + time);
  co_return;
}

TEST_F(ReactorTest, TheLongestTurnIsReportedWithTheNameOfItsTask) {
  tasks.spawn(take_long(core.clock, 5us), "short");
  core.loop.turn();
  tasks.spawn(take_long(core.clock, 700us), "long");
  core.loop.turn();
  core.loop.turn();
  EXPECT_EQ(core.loop.stats().longest_turn, 700us);
  EXPECT_STREQ(core.loop.stats().longest_turn_by, "long");
}

TEST_F(ReactorTest, ATaskThatIsRepeatedlyLongIsNamedAmongOthers) {
  for (int turn = 0; turn < 3; ++turn) {
    tasks.spawn(take_long(core.clock, 10us), "quick");
    tasks.spawn(take_long(core.clock, 2ms), "culprit");
    tasks.spawn(take_long(core.clock, 10us), "quick");
    core.loop.turn();
  }
  core.loop.turn();
  EXPECT_STREQ(core.loop.stats().longest_turn_by, "culprit");
}

TEST_F(ReactorTest, OnlyBusyTurnsAreTimed) {
  core.run_for(1s);
  const auto before = core.loop.stats().busy_time;
  tasks.spawn(take_long(core.clock, 5us));
  core.loop.turn();
  core.loop.turn();
  core.clock.advance_to(core.clock.now() + 1s);
  core.loop.turn();
  EXPECT_EQ(core.loop.stats().busy_time - before, 5us);
}

task<> note_current(reactor*& seen) {
  seen = reactor::current();
  co_return;
}

TEST_F(ReactorTest, SeveralReactorsMayShareAThread) {
  sim::core second;
  gate second_tasks{second.loop};
  reactor* seen_first = nullptr;
  reactor* seen_second = nullptr;
  tasks.spawn(note_current(seen_first));
  second_tasks.spawn(note_current(seen_second));
  core.loop.turn();
  second.loop.turn();
  EXPECT_EQ(seen_first, &core.loop);
  EXPECT_EQ(seen_second, &second.loop);
  EXPECT_EQ(reactor::current(), nullptr);
}

}  // namespace
}  // namespace runnel
