#pragma once

#include <concepts>
#include <coroutine>

#include "mempool/base/clock.h"
#include "mempool/base/error.h"
#include "runtime/intrusive_list.h"
#include "runtime/promise.h"
#include "runtime/timer_wheel.h"

namespace runnel {

class event;
class gate;
class reactor;

struct waits_tag;
struct event_tag;
struct cancellable_tag;

/// A set of suspended tasks that a cancelled gate can resume early. Sets register once with their
/// reactor and are searched only while a gate is being cancelled: a wait costs nothing extra.
/// Lives in its owner; removed from the reactor before it dies.
struct cancellable : list_hook<cancellable_tag> {
  /// Resumes with `errc::cancelled` whatever waits in `context` for a task of `owner`. Memory that
  /// a device may still reach stays owned until the device is done.
  using function = void (*)(void* context, const gate& owner) noexcept;

  cancellable(function cancel_waits, void* whose) noexcept : cancel{cancel_waits}, context{whose} {}

  function cancel;
  void* context;
};

/// Waits for a deadline or an event, whichever comes first. Made by `reactor::sleep_until` and
/// `event::wait`, awaited at once.
class timed_wait : private timer, private list_hook<waits_tag>, private list_hook<event_tag> {
 public:
  /// @param source  null: reaching the deadline is success, else it is `timed_out`
  timed_wait(reactor& core, instant deadline, event* source) noexcept
      : timer{on_deadline}, core_{core}, deadline_{deadline}, source_{source} {}

  [[nodiscard]] bool await_ready() const noexcept;
  template <std::derived_from<promise_base> Promise>
  void await_suspend(std::coroutine_handle<Promise> task) noexcept {
    begin(task.promise());
  }
  /// @error timed_out, cancelled
  [[nodiscard]] result<> await_resume() const noexcept;

 private:
  friend class event;
  friend class reactor;
  template <class T, class Tag>
  friend class intrusive_list;

  static void on_deadline(timer& self) noexcept;
  void begin(promise_base& task) noexcept;
  void end(errc why) noexcept;

  reactor& core_;
  instant deadline_;
  event* source_;
  promise_base* task_ = nullptr;
  errc outcome_ = errc::ok;
};

/// Lets everything else run for one turn. Made by `reactor::yield`.
class yield_wait {
 public:
  explicit yield_wait(reactor& core) noexcept : core_{core} {}

  [[nodiscard]] bool await_ready() const noexcept { return false; }
  template <std::derived_from<promise_base> Promise>
  void await_suspend(std::coroutine_handle<Promise> task) noexcept {
    begin(task.promise());
  }
  /// @error cancelled
  [[nodiscard]] result<> await_resume() const noexcept;

 private:
  void begin(promise_base& task) noexcept;

  reactor& core_;
  const promise_base* task_ = nullptr;
};

/// Something that happens on one core and that tasks of that core wait for. Stays set until reset.
/// Must have no waiters when it dies.
class event {
 public:
  explicit event(reactor& core) noexcept : core_{core} {}

  [[nodiscard]] bool is_set() const noexcept { return set_; }
  void set() noexcept;  // resumes every waiter
  void reset() noexcept { set_ = false; }

  /// @error timed_out, cancelled
  [[nodiscard]] timed_wait wait(instant deadline) noexcept {
    return timed_wait{core_, deadline, this};
  }

 private:
  friend class timed_wait;

  reactor& core_;
  intrusive_list<timed_wait, event_tag> waiters_;
  bool set_ = false;
};

}  // namespace runnel
