// Goal: a core sleeps while its requests are in flight and their completions wake it, and a device
// that cannot do that keeps it awake. Method: a disk on a simulated adaptive core, over a queue
// that completes on command and tells by an eventfd.

#include "runtime/io/queue_wake.h"

#include <gtest/gtest.h>
#include <sys/eventfd.h>

#include <memory>
#include <optional>
#include <utility>

#include "mempool/base/unique_fd.h"
#include "runtime/gate.h"
#include "runtime/io/block.h"
#include "tests/sim/core.h"

namespace runnel::io {
namespace {

using namespace std::chrono_literals;

struct telling_queue final : block_queue {
  explicit telling_queue(bool tells) : bell{tells ? ::eventfd(0, EFD_NONBLOCK) : -1} {}

  unique_fd bell;
  std::optional<block_request> kept;
  bool finished = false;
  bool finish_after_last_look = false;
  bool armed = false;
  std::uint32_t polls = 0;
  std::uint32_t arms = 0;

  void submit(std::span<block_request> requests) noexcept override {
    requests.front().state = block_state::pending;
    kept = requests.front();
  }
  std::size_t poll(std::span<block_completion> out) noexcept override {
    ++polls;
    if (!std::exchange(finished, false)) {
      if (armed && finish_after_last_look) {
        finish();
      }
      return 0;
    }
    out.front() = {std::exchange(kept, std::nullopt)->tag, block_status::success};
    return 1;
  }
  void flush() noexcept override {}
  [[nodiscard]] bool arm() noexcept override {
    ++arms;
    armed = wake_fd() >= 0;
    return armed;
  }
  void disarm() noexcept override {
    armed = false;
    eventfd_t ignored = 0;
    (void)eventfd_read(bell.get(), &ignored);
  }
  [[nodiscard]] int wake_fd() const noexcept override { return bell.get(); }
  [[nodiscard]] std::uint32_t depth() const noexcept override { return 1; }

  void finish() {
    finished = kept.has_value();
    (void)eventfd_write(bell.get(), 1);
  }
};

reactor_options sleepy(poll_mode mode) {
  reactor_options options;
  options.poll = mode;
  return options;
}

task<> flush_one(disk& which, bool& ended) {
  const auto done = co_await which.flush();
  ended = done.has_value();
}

/// A core with a disk, and one request in flight there.
struct sleepy_disk {
  explicit sleepy_disk(bool tells, poll_mode mode = poll_mode::adaptive) : core{sleepy(mode)} {
    auto made = std::make_unique<telling_queue>(tells);
    queue = made.get();
    info.address = "telling";
    info.block_bytes = 512;
    target = std::make_unique<disk>(core.loop, std::move(made), info, disk_options{});
    target->attach();
  }
  sleepy_disk(const sleepy_disk&) = delete;
  sleepy_disk& operator=(const sleepy_disk&) = delete;
  ~sleepy_disk() {
    queue->finish();
    run_for(1ms);
    target->detach();
  }
  void ask() {
    tasks.spawn(flush_one(*target, ended), "flush");
    run_for(1ms);
  }
  void run_for(nanoseconds duration) {
    const instant end = core.clock.now() + duration;
    while (core.clock.now() < end) {
      step();
    }
  }
  void step() {
    if (!core.loop.turn()) {
      core.loop.rest();
      core.clock.advance_to(core.clock.now() + 10us);
    }
  }

  sim::core core;
  gate tasks{core.loop};
  block_info info;
  telling_queue* queue = nullptr;
  std::unique_ptr<disk> target;
  bool ended = false;
};

TEST(QueueWake, ACoreSleepsWhileItsRequestsAreInFlightAndTheirCompletionsWakeIt) {
  sleepy_disk on{true};
  on.ask();
  EXPECT_GT(on.core.loop.stats().sleeps, 0U);
  const instant before = on.core.clock.now();
  on.queue->finish_after_last_look = true;
  while (!on.ended && on.core.clock.now() < before + 1s) {
    on.step();
  }
  EXPECT_LT(on.core.clock.now(), before + 1ms) << "by the eventfd, not when some deadline came";
}

TEST(QueueWake, AQueueThatTellsNothingKeepsItsCoreAwake) {
  sleepy_disk on{false};
  on.ask();
  EXPECT_GT(on.queue->arms, 0U);
  EXPECT_EQ(on.core.loop.stats().sleeps, 0U);
}

TEST(QueueWake, ABusyCoreNeverArmsItsQueues) {
  sleepy_disk on{true, poll_mode::busy};
  on.ask();
  EXPECT_EQ(on.queue->arms, 0U);
  EXPECT_EQ(on.core.loop.stats().sleeps, 0U);
}

TEST(QueueWake, AQueueWithoutRequestsIsPolledNowAndThenForItsDeviceMayWaitForThat) {
  sleepy_disk on{true};
  const std::uint32_t before = on.queue->polls;
  on.run_for(1s);
  EXPECT_GE(on.queue->polls, before + 5);
  EXPECT_LE(on.queue->polls, before + 20);
}

}  // namespace
}  // namespace runnel::io
