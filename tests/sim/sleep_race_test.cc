// Goal: whoever falls asleep and whoever has something for it never miss each other: it sees what
// came at its last look, or it is told. Method: two threads meet, then one stores and looks whether
// to tell, while the other says that it sleeps and looks what was stored; over and over, each on a
// core of its own and on words that both have in their caches, so that without a fence the loads
// overtake the stores. How far apart the two begin differs from round to round. Code that is not
// optimised stores so much in between that a fence in the reactor is missed by optimised builds
// only.
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <utility>

#include "apps/target/io_queue.h"
#include "drivers/nvme/doorbell.h"
#include "mempool/base/bits.h"
#include "mempool/base/clock.h"
#include "runtime/cores.h"
#include "runtime/reactor.h"
#include "runtime/thread.h"

namespace runnel {
namespace {

using namespace std::chrono_literals;

constexpr std::uint32_t rounds_max = 100'000;
constexpr auto time_max = 450ms;  // where the two threads seldom run together there are fewer

/// Where two threads meet, over and over.
class meeting_place {
 public:
  /// @param meetings  of this thread so far
  /// @return false: the other is late
  [[nodiscard]] bool meet(std::uint32_t& meetings) noexcept {
    const std::uint32_t both = 2 * ++meetings;
    arrived_.fetch_add(1, std::memory_order_acq_rel);  // pairs with the other's load
    for (std::uint32_t looks = 1; arrived_.load(std::memory_order_acquire) < both; ++looks) {
      if (looks % 1024 == 0 && std::chrono::steady_clock::now() > until_) {
        return false;
      }
    }
    return true;
  }

 private:
  const std::chrono::steady_clock::time_point until_ = std::chrono::steady_clock::now() + time_max;
  alignas(cache_line_bytes) std::atomic<std::uint32_t> arrived_{0};
};

/// The only source of a core that falls asleep.
class sleeper {
 public:
  sleeper() = default;
  sleeper(const sleeper&) = delete;
  sleeper& operator=(const sleeper&) = delete;
  virtual ~sleeper() = default;

  virtual void ask_to_be_told() noexcept {}
  virtual void be_left_alone() noexcept {}
  /// Whether there is something new.
  [[nodiscard]] virtual bool look() noexcept = 0;

  [[nodiscard]] source as_source() noexcept {
    return {.poll = [](void* self) noexcept { return static_cast<sleeper*>(self)->poll(); },
            .context = this,
            .name = "sleeper",
            .arm =
                [](void* self) noexcept {
                  static_cast<sleeper*>(self)->ask_to_be_told();
                  return true;
                },
            .disarm = [](void* self) noexcept { static_cast<sleeper*>(self)->be_left_alone(); }};
  }
  [[nodiscard]] bool saw() const noexcept { return saw_; }  // at its last look

 private:
  [[nodiscard]] std::uint32_t poll() noexcept {
    saw_ = look();
    return saw_ ? 1 : 0;
  }
  bool saw_ = false;
};

/// Many rounds of one that falls asleep and one that has something for it.
class race {
 public:
  explicit race(sleeper& subject) : subject_{subject} { core.add_source(subject_.as_source()); }
  race(const race&) = delete;
  race& operator=(const race&) = delete;
  ~race() { core.remove_source(&subject_); }

  /// @param look  reads where the sleeper says that it sleeps
  /// @param tell  brings something in the given round; whether it told the sleeper, too
  void run(std::function<void()> look, std::function<bool(std::uint32_t round)> tell) {
    look_ = std::move(look);
    tell_ = std::move(tell);
    const auto cores = allowed_cores();
    ASSERT_TRUE(cores);
    if (cores->size() < 2) {
      GTEST_SKIP() << "one core";
    }
    {
      const auto one =
          start((*cores)[0], [](void* self) noexcept { static_cast<race*>(self)->tell_all(); });
      const auto other =
          start((*cores)[1], [](void* self) noexcept { static_cast<race*>(self)->sleep_all(); });
      ASSERT_TRUE(one && other);
    }
    EXPECT_GT(rounds_, 0U);
    EXPECT_EQ(slept_over_, 0U) << "of " << rounds_;
  }

  /// Whether the sleeper was woken since the last call. @context the teller
  [[nodiscard]] bool was_woken() noexcept { return std::exchange(woken_, false); }

 private:
  /// A sleep lasts until the teller has done its part.
  struct bed final : waiter {
    explicit bed(race& of) noexcept : whose{of} {}
    result<> watch(int, void*) noexcept override { return {}; }
    void forget(int) noexcept override {}
    std::size_t wait(instant, instant, std::span<void*>) noexcept override {
      whose.sleep();
      return 0;
    }
    void interrupt() noexcept override { whose.woken_ = true; }
    race& whose;
  };

  [[nodiscard]] static reactor_options adaptive() {
    reactor_options options;
    options.poll = poll_mode::adaptive;
    return options;
  }
  [[nodiscard]] outcome<pinned_thread> start(core_id where, pinned_thread::function body) {
    return pinned_thread::start(std::span{&where, 1}, "race", body, this);
  }

  void tell_all() noexcept {
    std::uint32_t meetings = 0;
    for (std::uint32_t round = 0; round < rounds_max && place_.meet(meetings); ++round) {
      look_();
      if (!place_.meet(meetings)) {
        return;
      }
      stagger(round);
      told_ = tell_(round);
      if (!place_.meet(meetings)) {
        return;
      }
    }
  }
  static void stagger(std::uint32_t round) noexcept {
    const std::atomic<std::uint32_t> steps{round % 256};  // which no compiler skips
    for (std::uint32_t step = 0; step < steps.load(std::memory_order_relaxed); ++step) {
    }
  }

  void sleep_all() noexcept {
    for (; rounds_ < rounds_max; ++rounds_) {
      grow_tired();
      slept_ = false;
      if (!place_.meet(meetings_) || !place_.meet(meetings_)) {
        return;
      }
      core.rest();
      const bool slept = slept_;
      if (late_ || (!slept && !place_.meet(meetings_))) {
        return;
      }
      CHECK(slept || subject_.saw());  // else it did not even try
      slept_over_ += slept && !told_ ? 1 : 0;
    }
  }
  void sleep() noexcept {
    slept_ = true;
    late_ = !place_.meet(meetings_);
  }
  /// As many turns as it takes until the next rest is a sleep.
  void grow_tired() noexcept {
    for (int turns = 0; turns < 3; ++turns) {
      clock_.advance_to(clock_.now() + 200us);
      core.turn();
    }
  }

  sleeper& subject_;
  std::function<void()> look_;
  std::function<bool(std::uint32_t)> tell_;
  meeting_place place_;
  virtual_clock clock_;
  std::uint32_t rounds_ = 0;
  std::uint32_t meetings_ = 0;  // of the sleeper
  std::uint32_t slept_over_ = 0;
  bool slept_ = false;
  bool late_ = false;
  // Of the teller; `told_` is the sleeper's to read once they have met again.
  alignas(cache_line_bytes) bool told_ = false;
  bool woken_ = false;

 public:
  reactor core{clock_, std::make_unique<bed>(*this), adaptive()};
};

/// The target's side of one queue.
class tail_watcher final : public sleeper {
 public:
  static constexpr std::uint16_t entries = 64;

  tail_watcher() noexcept {
    tail_.bind(reinterpret_cast<std::byte*>(&shadow), reinterpret_cast<std::byte*>(&event_index));
    be_left_alone();
  }
  void ask_to_be_told() noexcept override { tail_.ask(head_); }
  void be_left_alone() noexcept override { tail_.renew(entries, head_); }
  [[nodiscard]] bool look() noexcept override {
    const std::uint16_t now = tail_.read(entries, head_, wrong_);
    return now != std::exchange(head_, now);
  }

  alignas(cache_line_bytes) std::uint32_t shadow = 0;
  alignas(cache_line_bytes) std::uint32_t event_index = 0;

 private:
  alignas(cache_line_bytes) target::doorbell tail_;
  std::uint16_t head_ = 0;
  std::uint64_t wrong_ = 0;
};

TEST(SleepRace, ATargetThatFallsAsleepSeesTheShadowOrItsDoorbellIsRung) {
  tail_watcher target;
  race both{target};
  alignas(cache_line_bytes) std::uint32_t rung = 0;
  nvme::doorbell bell = nvme::doorbell{reinterpret_cast<std::byte*>(&rung)}.with(
      {.value = &target.shadow, .event_index = &target.event_index});
  both.run([&] { (void)read_once(target.event_index); },
           [&](std::uint32_t round) {
             rung = tail_watcher::entries;  // no value of a tail
             EXPECT_TRUE(bell.ring((round + 1) % tail_watcher::entries));
             return rung != tail_watcher::entries;
           });
}

/// What other cores leave for this one.
class letter_box final : public sleeper {
 public:
  [[nodiscard]] bool look() noexcept override {
    return letters.load(std::memory_order_relaxed) != 0 && letters.exchange(0) != 0;
  }
  alignas(cache_line_bytes) std::atomic<std::uint32_t> letters{0};
};

TEST(SleepRace, ACoreThatFallsAsleepSeesWhatWasLeftForItOrIsWoken) {
  letter_box box;
  race both{box};
  both.run([&] { both.core.wake(); },
           [&](std::uint32_t) {
             box.letters.store(1, std::memory_order_relaxed);
             std::atomic_thread_fence(std::memory_order_seq_cst);  // as `reactor::wake` asks for
             both.core.wake();
             return both.was_woken();
           });
}

}  // namespace
}  // namespace runnel
