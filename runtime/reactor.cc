#include "runtime/reactor.h"

#include <algorithm>
#include <optional>
#include <span>
#include <utility>

#include "drivers/mmio.h"
#include "mempool/base/check.h"
#include "runtime/gate.h"

namespace runnel {

namespace detail {
constinit thread_local reactor* current_reactor = nullptr;
}  // namespace detail

namespace {

// Half of a shorter sleep would be waking up.
constexpr nanoseconds worth_a_sleep = 2 * waking_takes;

// What keeps an idle core awake for longer than this is named: it may do so for ever.
constexpr nanoseconds worth_naming{100'000'000};

std::uint32_t poll_nothing(void*) noexcept {
  return 0;
}

}  // namespace

/// Reactors of a simulation share a thread, so the pointer is put back.
struct reactor::current_scope {
  explicit current_scope(reactor& core) noexcept
      : outer{std::exchange(detail::current_reactor, &core)} {}
  current_scope(const current_scope&) = delete;
  current_scope& operator=(const current_scope&) = delete;
  ~current_scope() { detail::current_reactor = outer; }
  reactor* outer;
};

reactor::reactor(const clock_source& clock, std::unique_ptr<waiter> world,
                 const reactor_options& options)
    : now_{clock.now()},
      clock_{clock},
      timers_{now_},
      options_{options},
      world_{std::move(world)},
      frames_{options.frame_arena_bytes},
      fds_{[](void* self, instant now) noexcept {
             static_cast<reactor*>(self)->look(now);
             return never;  // it has no fd of its own: called every service_period anyway
           },
           this, -1, "file descriptors"},
      ladder_{options.idle} {
  cancelled_gates_.reserve(16);
}

reactor::~reactor() {
  CHECK(source_count_ == 0);
  CHECK(service_count_ == 0);
  CHECK(ready_.empty() && next_turn_.empty());
}

void reactor::run() noexcept {
  const current_scope scope{*this};
  while (!stop_.load(std::memory_order_relaxed)) {
    if (!one_turn() && rung_ != idle_rung::spin) [[unlikely]] {
      rest();
    }
  }
  stop_.store(false, std::memory_order_relaxed);  // it may be run again
}

bool reactor::turn() noexcept {
  const current_scope scope{*this};
  idle_turns_to_stamp_ = 1;
  return one_turn();
}

void reactor::wait() noexcept {
  const current_scope scope{*this};
  if (ready_.empty() && next_turn_.empty()) {
    look(timers_.next_deadline());
  }
}

void reactor::request_stop() noexcept {
  stop_.store(true, std::memory_order_relaxed);
  world_->interrupt();
}

result<> reactor::post(function f, void* context) noexcept {
  if (!inlet_.try_push({f, context})) {
    return fail(errc::queue_full);
  }
  world_->interrupt();
  return {};
}

void reactor::add_source(const source& which) noexcept {
  CHECK(source_count_ < sources_max);
  CHECK(which.poll != nullptr && which.context != nullptr);
  sources_[source_count_] = which;
  polls_[source_count_++] = {which.poll, which.context};
}

void reactor::remove_source(const void* context) noexcept {
  for (std::size_t index = 0; index < source_count_; ++index) {
    if (polls_[index].context == context) {
      polls_[index] = {poll_nothing, nullptr};
      source_removed_ = true;
    }
  }
  if (!polling_) {
    close_up_sources();
  }
}

void reactor::close_up_sources() noexcept {
  std::size_t kept = 0;
  for (std::size_t index = 0; index < source_count_; ++index) {
    if (polls_[index].context != nullptr) {
      sources_[kept] = sources_[index];
      polls_[kept++] = polls_[index];
    }
  }
  source_count_ = kept;
  source_removed_ = false;
}

result<> reactor::add_service(service& which) noexcept {
  CHECK(which.core_ == nullptr);
  if (which.fd_ >= 0) {
    const result<> watched = world_->watch(which.fd_, &which);
    if (!watched) {
      return watched;
    }
    if (watched_fds_++ == 0) {
      fds_.core_ = this;
      set_timer(fds_, now_);
    }
  }
  ++service_count_;
  which.core_ = this;
  set_timer(which, now_);
  return {};
}

void reactor::remove_service(service& which) noexcept {
  CHECK(which.core_ == this);
  if (which.fd_ >= 0) {
    world_->forget(which.fd_);
    std::replace(readable_.begin(), readable_.end(), static_cast<void*>(&which),
                 static_cast<void*>(nullptr));
    if (--watched_fds_ == 0) {
      fds_.core_ = nullptr;
      cancel_timer(fds_);
    }
  }
  --service_count_;
  which.core_ = nullptr;
  cancel_timer(which);
}

void reactor::remove_cancellable(cancellable& waits) noexcept {
  waits.unlink();
}

inline bool reactor::poll_sources() noexcept {
  const bool suspicious = suspicious_turns_ != 0;
  std::uint32_t found = 0;
  polling_ = true;
  for (std::size_t index = 0; index < source_count_; ++index) {  // a poll may add sources
    const std::uint32_t here = polls_[index].poll(polls_[index].context);
    if (here != 0) {
      found += here;
      (sources_[index].kernel_brings ? brought_ : looking_pays_) = true;
    }
    if (suspicious) [[unlikely]] {
      note_step(sources_[index].name);
    }
  }
  polling_ = false;
  if (source_removed_) [[unlikely]] {
    close_up_sources();
  }
  return found != 0;
}

bool reactor::one_turn() noexcept {
  bool found = poll_sources();
  const bool idle = !found && !busy_ && marked_ == nullptr && ready_.empty() && next_turn_.empty();
  if (idle && --idle_turns_to_stamp_ != 0) {
    return false;
  }
  stamp();
  const bool posted = run_posts();
  cancel_tasks();
  run_timers();
  brought_ |= std::exchange(served_fd_, false);
  const bool resumed = run_ready();
  found |= posted || resumed || brought_;
  looking_pays_ |= posted || (resumed && !brought_);
  brought_ = false;
  publish();
  busy_ = found;
  if (!found) {
    climb();
  }
  return found;
}

/// The one look at the clock of a turn. A busy turn lasts from its stamp to that of the next turn,
/// so timing it costs no second look; idle turns after that are stamped now and then only.
void reactor::stamp() noexcept {
  const instant time = clock_.now();
  if (suspicious_turns_ != 0) [[unlikely]] {
    --suspicious_turns_;
  }
  if (busy_) {
    note_turn(time - now_);
  }
  now_ = time;
  idle_turns_to_stamp_ = idle_turns_per_stamp;
}

bool reactor::run_posts() noexcept {
  std::size_t count = 0;
  while (count < posts_max && !inlet_.maybe_empty()) {
    const std::optional<call> next = inlet_.try_pop();
    if (!next) {
      break;
    }
    next->f(next->context);
    ++count;
  }
  return count != 0;
}

/// Repeated every turn until a cancelled gate is empty: that also catches tasks that were running
/// when it was cancelled, or that wait again, and ordinary waits need not ask.
void reactor::cancel_tasks() noexcept {
  for (std::size_t index = 0; index < cancelled_gates_.size(); ++index) {  // closers add theirs
    const gate& owner = *cancelled_gates_[index];
    waits_.for_each([&owner](timed_wait& wait) {
      if (wait.task_->owner == &owner) {
        wait.end(errc::cancelled);
      }
    });
    cancellables_.for_each([&owner](cancellable& waits) { waits.cancel(waits.context, owner); });
  }
}

/// Not work by itself: whom a timer readies is resumed and counted below, and housekeeping that
/// comes round would have an idle core look busy.
void reactor::run_timers() noexcept {
  if (timers_.next_deadline() > now_) {
    return;
  }
  timers_.advance(now_);
  while (timer* const due = timers_.pop_due()) {
    due->fire();
  }
}

bool reactor::run_ready() noexcept {
  ready_.append(next_turn_);
  resumed_before_turn_ = stats_.tasks_resumed;
  if (ready_.empty()) {
    return false;
  }
  const bool suspicious = suspicious_turns_ != 0;
  budget_ = awaits_per_turn;
  do {
    promise_base& task = ready_.pop();
    const char* const name = task.name;  // the task may be gone when it returns
    --budget_;
    ++stats_.tasks_resumed;
    task.handle.resume();
    last_resumed_ = name;
    if (suspicious) [[unlikely]] {
      note_step(name);
    }
  } while (!ready_.empty() && budget_ != 0);
  return true;
}

void reactor::publish() noexcept {
  while (marked_ != nullptr) {
    publisher& each = *marked_;
    marked_ = each.next;
    each.marked = false;
    each.publish(each.context);
  }
}

/// Only after turns that found nothing and read the clock: a busy core does not know of it.
void reactor::climb() noexcept {
  if (options_.poll == poll_mode::adaptive) {
    const bool worked = std::exchange(looking_pays_, false);
    rung_ = ladder_.next(worked, now_);
    idle_since_ = worked ? now_ : idle_since_;
  }
}

void reactor::rest() noexcept {
  switch (rung_) {
    case idle_rung::spin:
      break;
    case idle_rung::pause:
      cpu_pause();
      break;
    case idle_rung::nap:
      nap(nap_);
      break;
    case idle_rung::sleep:
      fall_asleep();
      break;
  }
}

/// Sources are armed before the last look at them. Descriptors need none: what made one readable
/// before ends the wait at once.
void reactor::fall_asleep() noexcept {
  const current_scope scope{*this};
  asleep_.store(true, std::memory_order_relaxed);
  // pairs with `wake`: what a source reads to decide how to be armed is new, or we are woken
  std::atomic_thread_fence(std::memory_order_seq_cst);
  bool possible = arm_sources();
  if (possible) {
    // pairs with `wake`, and with peers that look whether they are to tell us
    std::atomic_thread_fence(std::memory_order_seq_cst);
    busy_ = poll_sources();
    possible = busy_ || stop_.load(std::memory_order_relaxed) || !inlet_.maybe_empty() ||
               !ready_.empty() || !next_turn_.empty() || marked_ != nullptr || doze();
  }
  if (!possible) {
    ladder_.refused(now_);
    rung_ = idle_rung::pause;
  }
  asleep_.store(false, std::memory_order_relaxed);
  disarm_sources();
  idle_turns_to_stamp_ = 1;
}

bool reactor::arm_sources() noexcept {
  for (const source& each : std::span{sources_}.first(source_count_)) {
    ++armed_count_;
    if (each.arm == nullptr || !each.arm(each.context)) {
      if (now_ - idle_since_ > worth_naming) {
        stats_.kept_awake_by = each.name;
      }
      return false;
    }
  }
  return true;
}

/// The one that refused, too: it may be armed in part.
void reactor::disarm_sources() noexcept {
  const std::size_t count = std::min(std::exchange(armed_count_, 0), source_count_);
  for (const source& each : std::span{sources_}.first(count)) {
    if (each.disarm != nullptr) {
      each.disarm(each.context);
    }
  }
}

/// Until the next deadline but that of looking at descriptors, which is what it does.
/// @return false: that is too soon
bool reactor::doze() noexcept {
  cancel_timer(fds_);
  const instant began = now_ = clock_.now();
  const instant until = timers_.next_deadline();
  const bool worth_it = until - began > worth_a_sleep;
  if (worth_it) {
    ++stats_.sleeps;
    look(until);
    ladder_.slept(now_ - began);
    idle_since_ = now_;
  }
  if (watched_fds_ != 0) {
    set_timer(fds_, now_ + options_.service_period);
  }
  return worth_it;
}

void reactor::look(instant until) noexcept {
  const std::size_t count = world_->wait(now_, until, readable_);
  if (until > now_) {
    now_ = clock_.now();
  }
  served_fd_ |= count != 0;
  for (std::size_t index = 0; index < count; ++index) {
    void* const token = std::exchange(readable_[index], nullptr);
    if (token != nullptr) {  // null: removed by a service served before it
      serve(*static_cast<service*>(token));
    }
  }
}

void reactor::serve(service& which) noexcept {
  instant next = which.advance_(which.context_, now_);
  if (suspicious_turns_ != 0) [[unlikely]] {
    note_step(which.name_);
  }
  if (which.core_ == nullptr) {
    return;  // it removed itself
  }
  if (which.fd_ < 0) {
    next = std::min(next, now_ + options_.service_period);
  }
  if (next != never) {
    set_timer(which, next);
  } else {
    cancel_timer(which);
  }
}

void service::on_deadline(timer& self) noexcept {
  auto& due = static_cast<service&>(self);
  due.core_->serve(due);
}

void reactor::note_step(const char* name) noexcept {
  const instant ended = clock_.now();
  if (ended - step_began_ > longest_step_) {
    longest_step_ = ended - step_began_;
    longest_step_by_ = name;
  }
  step_began_ = ended;
}

void reactor::note_turn(nanoseconds took) noexcept {
  ++stats_.busy_turns;
  stats_.busy_time += took;
  const bool alone = stats_.tasks_resumed - resumed_before_turn_ == 1;
  const bool measured = suspicious_turns_ != 0 && longest_step_ > took / 2;
  const bool named = measured || alone;
  const bool first_name = named && !longest_turn_named_ && took > turn_limit;
  if (took > stats_.longest_turn || first_name) [[unlikely]] {
    stats_.longest_turn = took;
    stats_.longest_turn_by = measured ? longest_step_by_ : alone ? last_resumed_ : "several tasks";
    longest_turn_named_ = named;
  }
  if (took > turn_limit) [[unlikely]] {
    suspicious_turns_ = 128;
    step_began_ = now_ + took;
  }
  longest_step_ = nanoseconds{0};
}

}  // namespace runnel
