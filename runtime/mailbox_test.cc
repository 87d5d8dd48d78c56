// Goal: what one core sends another arrives once and in order, however full the lane; work that is
// started there ends with its result here, also when it is cancelled at any moment. Method: two
// simulated cores that are turned by hand, then an engine with threads.
#include "runtime/mailbox.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "runtime/engine.h"
#include "runtime/gate.h"
#include "runtime/on.h"
#include "tests/sim/core.h"

namespace runnel {
namespace {

/// Two cores of one engine on one thread.
struct pair_of_cores {
  struct side {
    explicit side(std::size_t index)
        : tasks{core.loop}, visitors{core.loop}, mail{core.loop, visitors, index, 2} {}
    sim::core core;
    gate tasks;
    gate visitors;
    mailbox mail;
  };
  side here{0};
  side there{1};

  /// Turns both until neither finds work.
  void settle() {
    int quiet = 0;
    for (int turn = 0; turn < 100'000 && quiet < 3; ++turn) {
      const bool first = here.core.loop.turn();
      const bool second = there.core.loop.turn();
      quiet = first || second ? 0 : quiet + 1;
    }
  }
};

task<> send_numbers(mailbox& from, mailbox& to, std::vector<int>& out, int count) {
  for (int i = 0; i < count; ++i) {
    const message next{[&out, i]() noexcept { out.push_back(i); }};
    co_await from.send(to, next);
  }
}

TEST(Mailbox, MessagesArriveInOrderThoughTheLaneIsFullManyTimes) {
  pair_of_cores cores;
  std::vector<int> got;
  cores.here.tasks.spawn(send_numbers(cores.here.mail, cores.there.mail, got, 2000));
  for (int turn = 0; turn < 10; ++turn) {
    (void)cores.here.core.loop.turn();
  }
  EXPECT_EQ(got.size(), 0U) << "nobody has looked yet";
  cores.settle();
  ASSERT_EQ(got.size(), 2000U);
  for (int i = 0; i < 2000; ++i) {
    EXPECT_EQ(got[static_cast<std::size_t>(i)], i);
  }
}

TEST(Mailbox, AFullLaneRefusesAndTakesAgain) {
  pair_of_cores cores;
  int delivered = 0;
  const message one{[&delivered]() noexcept { ++delivered; }};
  std::uint32_t taken = 0;
  while (cores.here.mail.try_send(cores.there.mail, one)) {
    ++taken;
  }
  EXPECT_EQ(taken, lane::capacity);
  cores.settle();
  EXPECT_EQ(delivered, static_cast<int>(lane::capacity));
  EXPECT_TRUE(cores.here.mail.try_send(cores.there.mail, one));
  cores.settle();
}

TEST(Mailbox, ATurnTakesABoundedNumberFromALane) {
  pair_of_cores cores;
  int delivered = 0;
  const message one{[&delivered]() noexcept { ++delivered; }};
  for (std::uint32_t i = 0; i < lane::capacity; ++i) {
    ASSERT_TRUE(cores.here.mail.try_send(cores.there.mail, one));
  }
  (void)cores.here.core.loop.turn();
  (void)cores.there.core.loop.turn();
  EXPECT_EQ(delivered, static_cast<int>(mailbox::messages_per_turn));
  cores.settle();
  EXPECT_EQ(delivered, static_cast<int>(lane::capacity));
}

TEST(Mailbox, AMessageAfterALongSilenceArrives) {
  pair_of_cores cores;
  int delivered = 0;
  const message one{[&delivered]() noexcept { ++delivered; }};
  for (const std::uint32_t silence : {lane::quiet_looks_max - 1, 1U, lane::quiet_looks_max, 0U}) {
    SCOPED_TRACE(silence);
    delivered = 0;
    for (std::uint32_t turn = 0; turn < silence; ++turn) {
      (void)cores.there.core.loop.turn();
    }
    ASSERT_TRUE(cores.here.mail.try_send(cores.there.mail, one));
    (void)cores.here.core.loop.turn();
    (void)cores.there.core.loop.turn();
    EXPECT_EQ(delivered, 1);
  }
}

TEST(Mailbox, AMessageThatIsWaitedForArrivesInTheTurnThatSentIt) {
  pair_of_cores cores;
  int delivered = 0;
  const message one{[&delivered]() noexcept { ++delivered; }};
  ASSERT_TRUE(cores.here.mail.try_send(cores.there.mail, one));
  cores.settle();
  ASSERT_TRUE(cores.here.mail.try_send(cores.there.mail, one));
  (void)cores.there.core.loop.turn();
  EXPECT_EQ(delivered, 2);
  cores.settle();
}

task<int> add_over_there(reactor& there, int a, int b, core_id& where) {
  const auto add = [&](reactor& core) -> task<int> {
    static_cast<void>(co_await core.yield());
    where = reactor::current()->core();
    co_return a + b;
  };
  co_return co_await on(there, add);
}

TEST(On, TheResultComesBackFromTheOtherCore) {
  const auto host = engine::create({.cores = {core_id{0}, core_id{1}}});
  if (!host) {
    GTEST_SKIP() << host.error().message();
  }
  core_id where{};
  const int sum =
      (*host)->run(0, [&](reactor&) { return add_over_there((*host)->core(1), 20, 22, where); });
  EXPECT_EQ(sum, 42);
  EXPECT_EQ(where, core_id{1});
}

task<> wait_over_there(reactor& there, errc& how, bool& ended) {
  const auto wait = [&how](reactor& core) -> task<> {
    const result<> slept = co_await core.sleep_until(never);
    how = slept ? errc::ok : slept.error().code;
  };
  co_await on(there, wait);
  ended = true;
}

TEST(On, CancellingTheCallerCancelsTheWorkAndWaitsForItsEnd) {
  pair_of_cores cores;
  errc how = errc::ok;
  bool ended = false;
  cores.here.tasks.spawn(wait_over_there(cores.there.core.loop, how, ended));
  cores.settle();
  EXPECT_FALSE(ended);
  cores.here.tasks.cancel();
  (void)cores.here.core.loop.turn();
  (void)cores.here.core.loop.turn();
  EXPECT_FALSE(ended) << "the other core still uses the caller's frame";
  cores.settle();
  EXPECT_TRUE(ended);
  EXPECT_EQ(how, errc::cancelled);
}

TEST(On, ACancellationThatComesTooLateIsAnsweredBeforeTheCallerGoesOn) {
  for (int turns_of_the_other = 0; turns_of_the_other < 6; ++turns_of_the_other) {
    SCOPED_TRACE(turns_of_the_other);
    pair_of_cores cores;
    bool ended = false;
    const auto call = [](reactor& there, bool& done) -> task<> {
      const auto nothing = [](reactor&) -> task<> { co_return; };
      co_await on(there, nothing);
      done = true;
    };
    cores.here.tasks.spawn(call(cores.there.core.loop, ended));
    (void)cores.here.core.loop.turn();
    for (int turn = 0; turn < turns_of_the_other; ++turn) {
      (void)cores.there.core.loop.turn();
    }
    cores.here.tasks.cancel();
    cores.settle();
    EXPECT_TRUE(ended);
    EXPECT_EQ(cores.here.tasks.size(), 0U);
    EXPECT_EQ(cores.there.visitors.size(), 0U);
  }
}

task<std::uint64_t> bounce(reactor& there, std::uint64_t rounds) {
  std::uint64_t sum = 0;
  for (std::uint64_t i = 0; i < rounds; ++i) {
    const auto square = [i](reactor&) -> task<std::uint64_t> { co_return i* i; };
    sum += co_await on(there, square);
  }
  co_return sum;
}

TEST(On, CoresCallEachOtherAtTheSameTime) {
  const auto host = engine::create({.cores = {core_id{0}, core_id{1}}});
  if (!host) {
    GTEST_SKIP() << host.error().message();
  }
  constexpr std::uint64_t rounds = 2000;
  std::uint64_t expected = 0;
  for (std::uint64_t i = 0; i < rounds; ++i) {
    expected += i * i;
  }
  engine& both = **host;
  auto one = both.start(0, [&](reactor&) { return bounce(both.core(1), rounds); });
  auto other = both.start(1, [&](reactor&) { return bounce(both.core(0), rounds); });
  EXPECT_EQ(one.get(), expected);
  EXPECT_EQ(other.get(), expected);
}

task<std::uint64_t> call_now_and_then(reactor& here, reactor& there, std::uint32_t calls) {
  std::uint64_t heard = 0;
  std::minstd_rand random{1};
  for (std::uint32_t i = 0; i < calls; ++i) {
    for (auto turns = random() % (2 * lane::quiet_looks_max); turns != 0; --turns) {
      static_cast<void>(co_await here.yield());
    }
    const auto one = [](reactor&) -> task<std::uint64_t> { co_return 1; };
    heard += co_await on(there, one);
  }
  co_return heard;
}

/// The other core looks away at about the time of each call.
TEST(On, ACallIsHeardWhenTheOtherCoreIsLookingAway) {
  const auto host = engine::create({.cores = {core_id{0}, core_id{1}}});
  if (!host) {
    GTEST_SKIP() << host.error().message();
  }
  constexpr std::uint32_t calls = 500;
  reactor& there = (*host)->core(1);
  const auto heard =
      (*host)->run(0, [&there](reactor& here) { return call_now_and_then(here, there, calls); });
  EXPECT_EQ(heard, calls);
}

TEST(On, AnEngineEndsThoughCoresWaitForEachOther) {
  errc how = errc::ok;
  bool ended = false;
  auto host = engine::create({.cores = {core_id{0}, core_id{1}}});
  if (!host) {
    GTEST_SKIP() << host.error().message();
  }
  reactor& there = (*host)->core(1);
  auto waiting = (*host)->start(0, [&](reactor&) { return wait_over_there(there, how, ended); });
  host->reset();
  waiting.get();
  EXPECT_TRUE(ended);
  EXPECT_EQ(how, errc::cancelled);
}

}  // namespace
}  // namespace runnel
