// Goal: the cores of a controller sleep each for itself, and whoever has something for another
// wakes it. Method: two simulated adaptive cores; on the one that falls asleep something happens
// behind the last look at its queues, so that only being woken can end its sleep.

#include <gtest/gtest.h>

#include <functional>
#include <utility>

#include "apps/target/fake_driver.h"
#include "apps/target/io_core.h"
#include "tests/sim/core.h"

namespace runnel::target {
namespace {

using namespace std::chrono_literals;

/// Polled behind all others, it does something once, at the last look before a sleep.
struct last_moment {
  std::function<void()> act;
  bool armed = false;

  explicit last_moment(reactor& core) : core_{core} {
    core.add_source(
        {.poll =
             [](void* context) noexcept {
               auto& self = *static_cast<last_moment*>(context);
               if (self.armed && self.act) {
                 std::exchange(self.act, nullptr)();
               }
               return 0U;
             },
         .context = this,
         .name = "last moment",
         .arm =
             [](void* context) noexcept {
               return static_cast<last_moment*>(context)->armed = true;
             },
         .disarm =
             [](void* context) noexcept { static_cast<last_moment*>(context)->armed = false; }});
  }
  last_moment(const last_moment&) = delete;
  last_moment& operator=(const last_moment&) = delete;
  ~last_moment() { core_.remove_source(this); }

 private:
  reactor& core_;
};

reactor_options sleepy() {
  reactor_options options;
  options.poll = poll_mode::adaptive;
  return options;
}

/// A controller with one core besides its own; queue 2 is the other's, and interrupts.
class IoCoreSleep : public testing::Test {
 protected:
  IoCoreSleep() {
    host.enable();
    queue = host.make_pair(2, 16, 3 | 5U << 16U);
    host.poll_patiently();
    other.attach(there.loop, home.loop);
    there.loop.set_timer(alarm, there.clock.now() + 1h);
  }
  ~IoCoreSleep() override {
    there.loop.cancel_timer(alarm);
    other.detach();
  }

  void read() {
    host.place(queue, fake::machine::io(nvme::io_opcode::read, 1, 1, fake::machine::data));
  }
  /// As a host without mapped doorbells does.
  void ring() {
    const std::uint32_t tail = queue.tail;
    host.nvme->write_register(register_bytes + 2U * queue.id * cache_line_bytes,
                              std::as_bytes(std::span{&tail, 1}));
  }
  /// Turns until the core has slept, or for a second. @return how long it slept
  static nanoseconds sleep(sim::core& core) {
    const instant end = core.clock.now() + 1s;
    while (core.clock.now() < end) {
      const instant before = core.clock.now();
      const std::uint64_t sleeps = core.loop.stats().sleeps;
      if (!core.loop.turn()) {
        core.loop.rest();
      }
      if (core.loop.stats().sleeps != sleeps) {
        return core.clock.now() - before;
      }
      core.clock.advance_to(before + 10us);
    }
    return {};
  }

  fake::machine host{{.others = 1}};
  fake::host_queue queue;
  io_core& other = *host.others[0];
  sim::core there{sleepy()};
  sim::core home{sleepy()};
  timer alarm{[](timer&) noexcept {}};
};

TEST_F(IoCoreSleep, ACoreWithoutCommandsSleeps) {
  EXPECT_GT(sleep(there), 1ms);
  EXPECT_TRUE(host.nvme->arm());
  host.nvme->disarm();
}

TEST_F(IoCoreSleep, ADoorbellThatComesByMessageWakesWhoServesItsQueue) {
  last_moment late{there.loop};
  read();
  late.act = [this] { ring(); };
  EXPECT_EQ(sleep(there), 0ns);
  there.loop.turn();
  EXPECT_TRUE(host.peek(queue).has_value());
}

TEST_F(IoCoreSleep, ACoreIsWokenToStandStillAndToGoOn) {
  last_moment late{there.loop};
  late.act = [this] { EXPECT_FALSE(host.nvme->stand_still()); };
  EXPECT_EQ(sleep(there), 0ns);
  there.loop.turn();
  EXPECT_TRUE(other.stands_still());
  host.others_run = false;
  host.poll(1);
  ASSERT_TRUE(host.nvme->stand_still());
  EXPECT_GT(sleep(there), 1ms);
  late.act = [this] {
    read();
    host.poll(2);
    ring();
  };
  EXPECT_EQ(sleep(there), 0ns);
  there.loop.turn();
  EXPECT_TRUE(host.peek(queue).has_value());
}

TEST_F(IoCoreSleep, TheControllersCoreIsWokenForTheInterruptsOfTheOther) {
  last_moment late{home.loop};
  home.loop.set_timer(alarm, home.clock.now() + 1h);
  late.act = [this] {
    read();
    ring();
    other.poll(host.clock.now());
  };
  EXPECT_EQ(sleep(home), 0ns);
  host.nvme->poll(host.clock.now());
  EXPECT_EQ(host.lines.count[5], 1U);
  home.loop.cancel_timer(alarm);
}

TEST_F(IoCoreSleep, WhoeverOwesAnAnswerStaysAwake) {
  EXPECT_FALSE(host.nvme->stand_still());
  EXPECT_FALSE(host.nvme->arm());
  EXPECT_FALSE(other.arm());
  other.poll(host.clock.now());
  EXPECT_TRUE(other.arm());
  other.disarm();
  host.nvme->poll(host.clock.now());
  EXPECT_TRUE(host.nvme->arm());
  host.nvme->disarm();
}

TEST(IoCoreAwake, WhereDoorbellsAreMappedWhoServesQueuesDoesNotSleep) {
  fake::machine host{{.tells_of_doorbells = false, .others = 1}};
  EXPECT_TRUE(host.others[0]->arm()) << "its controller is disabled";
  host.others[0]->disarm();
  host.enable();
  host.poll();
  EXPECT_FALSE(host.others[0]->arm());
  host.others[0]->disarm();
}

TEST_F(IoCoreSleep, DevicesWithoutRequestsArePolledNowAndThenByCoresThatSleep) {
  const std::uint64_t before = host.drive.polls;
  const instant end = there.clock.now() + 1s;
  while (there.clock.now() < end) {
    static_cast<void>(sleep(there));
  }
  EXPECT_GE(host.drive.polls, before + 5);
  EXPECT_LE(host.drive.polls, before + 20);
}

}  // namespace
}  // namespace runnel::target
