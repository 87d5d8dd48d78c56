#pragma once

#include <concepts>
#include <coroutine>
#include <exception>
#include <optional>
#include <utility>

#include "mempool/base/check.h"
#include "runtime/promise.h"
#include "runtime/reactor.h"

namespace runnel {

template <class T = void>
class task;

/// The end of a spawned task: leaves its gate and frees the frame.
void end_detached(promise_base& task) noexcept;

namespace detail {

/// A frame's last suspension: hands control on. Never resumes the parent from here (the stack would
/// grow with every loop); a parent that waits goes through the ready queue.
struct final_wait {
  [[nodiscard]] bool await_ready() const noexcept { return false; }
  template <std::derived_from<promise_base> Promise>
  void await_suspend(std::coroutine_handle<Promise> ended) const noexcept {
    promise_base& promise = ended.promise();
    if (promise.parent_waiting) {
      reactor::current()->ready(*promise.parent);
    } else if (promise.detached) {
      end_detached(promise);  // the frame, and this awaiter in it, are gone now
    }
  }
  void await_resume() const noexcept {}
};

struct promise_common : promise_base {
  [[nodiscard]] std::suspend_always initial_suspend() const noexcept { return {}; }
  [[nodiscard]] final_wait final_suspend() const noexcept { return {}; }
  void unhandled_exception() const noexcept { std::terminate(); }
};

template <class T>
struct promise : promise_common {
  task<T> get_return_object() noexcept;
  template <class U = T>
    requires std::constructible_from<T, U&&>
  void return_value(U&& result) {
    value.emplace(std::forward<U>(result));
  }
  [[nodiscard]] T take() {
    CHECK(value.has_value());
    return std::move(*value);
  }

  std::optional<T> value;
};

template <>
struct promise<void> : promise_common {
  task<void> get_return_object() noexcept;
  void return_void() const noexcept {}
  void take() const noexcept {}
};

}  // namespace detail

/// A coroutine: nothing runs until it is awaited or spawned into a gate. Awaiting one runs it in
/// place, on the caller's stack, until it first waits; a child that never waits never suspends its
/// parent. Tasks stay on the core where they started.
///
/// Dropping a task that has not started is fine; dropping one that waits is a bug (CHECK): cancel
/// its gate and let it end. Exceptions that leave a task terminate the process.
/// @context one core; frames come from the core's frame_slab
template <class T>
class [[nodiscard]] task {
 public:
  using promise_type = detail::promise<T>;
  using value_type = T;

  task(task&& other) noexcept : frame_{std::exchange(other.frame_, nullptr)} {}
  task& operator=(task&& other) noexcept {
    task taken{std::move(other)};
    std::swap(frame_, taken.frame_);
    return *this;
  }
  task(const task&) = delete;
  task& operator=(const task&) = delete;
  ~task() {
    if (frame_) {
      CHECK(!frame_.promise().started || frame_.done());
      frame_.destroy();
    }
  }

  class awaiter {
   public:
    explicit awaiter(std::coroutine_handle<promise_type> child) noexcept : child_{child} {}

    [[nodiscard]] bool await_ready() const noexcept { return false; }

    /// Runs the child on this stack. False (do not suspend) when it finished without waiting, so a
    /// loop of ready awaits stays flat in every build: g++ 12 tail-calls transfers only at -O2.
    /// Sound only because a frame never changes core: nobody else can finish the child meanwhile.
    template <std::derived_from<promise_base> Promise>
    bool await_suspend(std::coroutine_handle<Promise> parent) noexcept {
      promise_base& child = child_.promise();
      promise_base& waiting = parent.promise();
      CHECK(!child.started);
      child.parent = &waiting;
      child.owner = waiting.owner;
      child.name = waiting.name;
      child.started = true;
      child_.resume();
      child.parent_waiting = !child_.done();  // if set, the child's end queues the parent
      if (child.parent_waiting) {
        waiting.waits_for = waits_for_child.data();
        waiting.awaits = &child;
      }
      return child.parent_waiting;
    }

    T await_resume() { return child_.promise().take(); }

   private:
    std::coroutine_handle<promise_type> child_;
  };

  awaiter operator co_await() && noexcept { return awaiter{frame_}; }

  /// Gives the frame to whoever starts it. @return its promise; the frame frees itself at its end
  [[nodiscard]] promise_base& detach() && noexcept
    requires std::same_as<T, void>
  {
    promise_base& promise = std::exchange(frame_, nullptr).promise();
    promise.started = true;
    promise.detached = true;
    return promise;
  }

 private:
  friend promise_type;
  explicit task(std::coroutine_handle<promise_type> frame) noexcept : frame_{frame} {
    frame.promise().handle = frame;
  }

  std::coroutine_handle<promise_type> frame_;
};

namespace detail {

template <class T>
task<T> promise<T>::get_return_object() noexcept {
  return task<T>{std::coroutine_handle<promise<T>>::from_promise(*this)};
}
inline task<void> promise<void>::get_return_object() noexcept {
  return task<void>{std::coroutine_handle<promise<void>>::from_promise(*this)};
}

}  // namespace detail
}  // namespace runnel
