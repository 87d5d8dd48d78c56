#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "mempool/base/bits.h"
#include "mempool/base/clock.h"
#include "mempool/base/error.h"
#include "mempool/base/units.h"
#include "mempool/ring/mpmc_ring.h"
#include "runtime/frame_slab.h"
#include "runtime/idle.h"
#include "runtime/nap.h"
#include "runtime/promise.h"
#include "runtime/timer_wheel.h"
#include "runtime/wait.h"
#include "runtime/waiter.h"

namespace runnel {

class mailbox;

/// Something polled once per turn.
struct source {
  /// Does a bounded amount of work. @return how much was found; 0 is normal and must be cheap
  std::uint32_t (*poll)(void* context) noexcept = nullptr;
  void* context = nullptr;
  const char* name = "";  // static; for reports
  /// Before the core sleeps: from here on a service's descriptor, or `reactor::wake`, tells when
  /// the next poll may find something. False: nothing will tell, now. Null: never, so a core with
  /// this source does not sleep.
  bool (*arm)(void* context) noexcept = nullptr;
  /// The core polls again. Called after `arm`, whatever that said; may be null.
  void (*disarm)(void* context) noexcept = nullptr;
  /// What it finds is brought by an interrupt of this machine's kernel, which needs the core for
  /// it: looking more often finds nothing sooner. Such work does not end a core's idleness.
  bool kernel_brings = false;
};

/// Something that was changed in this turn and becomes visible at its end, once however often it
/// was marked: a queue's doorbell. Lives in its owner; must not be marked when it dies.
struct publisher {
  void (*publish)(void* context) noexcept = nullptr;
  void* context = nullptr;
  publisher* next = nullptr;
  bool marked = false;
};

/// The control side of a device or a server: called when its fd is readable, at the deadline it
/// returned last and, without an fd, every `service_period` too. Lives in its owner; removed from
/// the reactor before it dies.
class service : private timer {
 public:
  using function = instant (*)(void* context, instant now) noexcept;  // returns its next deadline

  service(function advance, void* context, int fd, const char* name) noexcept
      : timer{on_deadline}, advance_{advance}, context_{context}, fd_{fd}, name_{name} {}

  [[nodiscard]] bool attached() const noexcept { return core_ != nullptr; }

 private:
  friend class reactor;
  static void on_deadline(timer& self) noexcept;

  function advance_;
  void* context_;
  int fd_;
  const char* name_;
  class reactor* core_ = nullptr;
};

struct reactor_options {
  core_id core{};
  std::size_t frame_arena_bytes = mib;
  /// How often a busy reactor looks at file descriptors and serves those services that have none.
  nanoseconds service_period{30'000};
  poll_mode poll = poll_mode::busy;
  idle_options idle{};
};

/// What a core did; read on that core. Only turns that found work are timed, and a service that is
/// called because it is time is no such work.
struct reactor_stats {
  std::uint64_t busy_turns = 0;
  nanoseconds busy_time{0};
  std::uint64_t tasks_resumed = 0;
  nanoseconds longest_turn{0};
  const char* longest_turn_by = "";  // the name of a task or source, or "several tasks"
  std::uint64_t sleeps = 0;
  const char* kept_awake_by = "";  // the source that would not be armed while the core was idle
};

/// One core's loop. A turn polls all sources, fires timers, resumes ready tasks within a budget and
/// publishes what they submitted; work moves only in that order. One clock stamp serves a turn.
///
/// A core that polls adaptively sleeps when it has found nothing for a while: in its waiter, once
/// every source is armed and one more look at each found nothing either.
///
/// @context one thread, whichever calls `run` or `turn`; only `post`, `wake` and `request_stop` may
///          be called from elsewhere
class reactor final {
 public:
  static constexpr std::uint32_t awaits_per_turn = 256;
  static constexpr std::uint32_t idle_turns_per_stamp = 16;  // a stamp costs as much as a turn
  static constexpr std::size_t sources_max = 64;
  static constexpr std::size_t posts_max = 256;
  static constexpr nanoseconds turn_limit{1'000'000};  // a longer one is worth knowing who made it
  using function = void (*)(void* context) noexcept;

  reactor(const clock_source& clock, std::unique_ptr<waiter> world, const reactor_options& options);
  reactor(const reactor&) = delete;
  reactor& operator=(const reactor&) = delete;
  ~reactor();  // every gate closed, every source and service removed

  /// The reactor whose turn this thread is in; null outside.
  [[nodiscard]] static reactor* current() noexcept;

  /// Turns until `request_stop`.
  void run() noexcept;
  /// One turn. @return whether it found work
  bool turn() noexcept;
  /// When a turn found nothing: waits for the next deadline, fd or post. Simulations call it; a
  /// busy core never does.
  void wait() noexcept;
  /// What `run` does after a turn that found nothing: where the ladder of idleness is, down to
  /// sleep. @pre it polls adaptively
  void rest() noexcept;

  /// @context any thread, signal handlers too
  void request_stop() noexcept;
  /// Has `f(context)` called on this core within a few turns.
  /// @error queue_full: `posts_max` calls are waiting
  /// @context any thread, signal handlers too
  [[nodiscard]] result<> post(function f, void* context) noexcept;
  /// Ends its sleep, if it sleeps. Whoever has an armed source find something calls this, after a
  /// store that is sequentially consistent, or that such a read-modify-write or fence follows.
  /// @context any thread
  void wake() noexcept {
    // pairs with the fence of `fall_asleep`: it sees our store, or we see that it sleeps
    if (asleep_.load(std::memory_order_seq_cst)) [[unlikely]] {
      world_->interrupt();
    }
  }

  /// The stamp of this turn: at most a few hundred nanoseconds old.
  [[nodiscard]] instant now() const noexcept { return now_; }
  [[nodiscard]] core_id core() const noexcept { return options_.core; }
  [[nodiscard]] poll_mode polling() const noexcept { return options_.poll; }
  [[nodiscard]] const reactor_stats& stats() const noexcept { return stats_; }
  [[nodiscard]] const frame_slab& frames() const noexcept { return frames_; }

  /// Where this core talks to the others of its engine; null when it is alone.
  [[nodiscard]] mailbox* mail() const noexcept { return mail_; }
  void set_mail(mailbox* mine) noexcept { mail_ = mine; }

  /// Waits. @error cancelled
  [[nodiscard]] timed_wait sleep_until(instant deadline) noexcept {
    return timed_wait{*this, deadline, nullptr};
  }
  [[nodiscard]] timed_wait sleep_for(nanoseconds duration) noexcept {
    return timed_wait{*this, now_ + duration, nullptr};
  }
  [[nodiscard]] yield_wait yield() noexcept { return yield_wait{*this}; }

  /// Sources are polled in the order in which they were added; at most `sources_max` of them.
  /// @context also within a poll
  void add_source(const source& which) noexcept;
  void remove_source(const void* context) noexcept;
  /// @error os: the fd cannot be watched
  [[nodiscard]] result<> add_service(service& which) noexcept;
  void remove_service(service& which) noexcept;
  void add_cancellable(cancellable& waits) noexcept { cancellables_.push_back(waits); }
  void remove_cancellable(cancellable& waits) noexcept;
  void set_timer(timer& which, instant deadline) noexcept { timers_.set(which, deadline); }
  void cancel_timer(timer& which) noexcept { timers_.cancel(which); }

  /// For awaiters: the task goes on in this turn, or in the next.
  void ready(promise_base& task) noexcept { ready_.push(task); }
  void ready_next_turn(promise_base& task) noexcept { next_turn_.push(task); }
  /// For awaiters that need not wait: false when this turn's budget is spent, then go on in the
  /// next turn, so that a loop of awaits that are always ready cannot starve the others.
  [[nodiscard]] bool may_continue() noexcept {
    if (budget_ == 0) {
      return false;
    }
    --budget_;
    return true;
  }
  /// For whoever submits to a device: `which` is published at the end of the turn.
  void mark(publisher& which) noexcept {
    if (!which.marked) {
      which.marked = true;
      which.next = marked_;
      marked_ = &which;
    }
  }

 private:
  friend class gate;
  friend class service;
  friend class timed_wait;
  friend struct promise_base;

  struct poll_call {  // the part of a source that every turn needs
    std::uint32_t (*poll)(void* context) noexcept;
    void* context;
  };
  struct call {
    function f;
    void* context;
  };
  struct current_scope;

  bool one_turn() noexcept;
  [[nodiscard]] bool poll_sources() noexcept;
  void close_up_sources() noexcept;
  void stamp() noexcept;
  bool run_posts() noexcept;
  void cancel_tasks() noexcept;
  void run_timers() noexcept;
  bool run_ready() noexcept;
  void publish() noexcept;
  void look(instant until) noexcept;
  void climb() noexcept;
  void fall_asleep() noexcept;
  [[nodiscard]] bool arm_sources() noexcept;
  void disarm_sources() noexcept;
  [[nodiscard]] bool doze() noexcept;
  void serve(service& which) noexcept;
  void note_step(const char* name) noexcept;
  void note_turn(nanoseconds took) noexcept;

  // What every turn touches comes first.
  std::size_t source_count_ = 0;
  std::size_t armed_count_ = 0;
  std::array<poll_call, sources_max> polls_{};
  ready_queue ready_;
  ready_queue next_turn_;
  publisher* marked_ = nullptr;
  instant now_;
  std::uint32_t budget_ = 0;
  std::uint32_t idle_turns_to_stamp_ = 1;
  bool busy_ = false;            // the last turn found work
  bool brought_ = false;         // in this turn the kernel brought some
  bool looking_pays_ = false;    // since the ladder was asked last, some came by other ways
  bool polling_ = false;         // inside poll_sources
  bool served_fd_ = false;       // some descriptor had something to read
  bool source_removed_ = false;  // while polling: its place is closed up afterwards
  idle_rung rung_ = idle_rung::spin;
  std::atomic<bool> stop_{false};
  const clock_source& clock_;
  timer_wheel timers_;
  reactor_stats stats_;

  // Who made a turn long. Stamping every step would cost more than most steps, so it is done for
  // some turns after a long one only: the first culprit may stay unnamed, a regular one does not.
  std::uint32_t suspicious_turns_ = 0;
  std::uint64_t resumed_before_turn_ = 0;
  const char* last_resumed_ = "";
  instant step_began_;
  nanoseconds longest_step_{0};
  const char* longest_step_by_ = nullptr;
  bool longest_turn_named_ = false;

  std::array<source, sources_max> sources_{};
  reactor_options options_;
  mailbox* mail_ = nullptr;
  std::unique_ptr<waiter> world_;
  frame_slab frames_;
  intrusive_list<timed_wait, waits_tag> waits_;
  intrusive_list<cancellable, cancellable_tag> cancellables_;
  std::vector<gate*> cancelled_gates_;
  std::size_t service_count_ = 0;
  std::size_t watched_fds_ = 0;
  std::array<void*, 16> readable_{};  // services, while they are being served
  service fds_;                       // looks at the world now and then, while fds are watched

  idle_ladder ladder_;
  nap_kind nap_ = find_nap(this_cpuid);
  instant idle_since_ = now_;
  std::atomic<bool> asleep_{false};
  mpmc_ring<call> inlet_{posts_max};  // what other threads posted
};

namespace detail {
// The only mutable static: which reactor's turn this thread is in. constinit spares the wrapper
// call that a dynamically initialised thread_local costs.
extern constinit thread_local reactor* current_reactor;
}  // namespace detail

inline reactor* reactor::current() noexcept {
  return detail::current_reactor;
}

}  // namespace runnel
