#pragma once

#include <concepts>
#include <condition_variable>
#include <coroutine>
#include <cstddef>
#include <deque>
#include <mutex>
#include <optional>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include "mempool/base/clock.h"
#include "mempool/base/error.h"
#include "mempool/base/units.h"
#include "runtime/confinement.h"
#include "runtime/on.h"
#include "runtime/promise.h"
#include "runtime/reactor.h"
#include "runtime/thread.h"

namespace runnel {

/// Threads for work that blocks or is heavy, so that no reactor has to wait: on the cores that have
/// no reactor, or on all of ours when every one has. They start as work finds none of them free.
class offloader {
 public:
  using function = void (*)(void* context) noexcept;

  /// @param cores        where its threads may run  @pre not empty
  /// @param threads_max  at once; by default one for each core, as for work that computes
  explicit offloader(std::span<const core_id> cores, std::optional<std::size_t> threads_max = {});
  offloader(const offloader&) = delete;
  offloader& operator=(const offloader&) = delete;
  ~offloader();  // waits for all work

  /// Has `f(context)` called by one of the threads, oldest first. @context any thread; may
  /// allocate; the first call starts a thread and aborts when the system allows none
  void enqueue(function f, void* context);

  /// Blocks until no work is left or `limit` has passed. @return whether none is
  [[nodiscard]] bool wait_until_idle(nanoseconds limit);

  /// Confines its threads, and starts none from now on, since those who hand it work may not: the
  /// ones that there are do all, or one if there was none. Waits for the work that they are doing.
  /// @error os @context control thread, once
  [[nodiscard]] outcome<> confine(const confinement& how);

 private:
  struct call {
    function run;
    void* context;
  };

  void serve();         // the life of a thread
  void start_thread();  // under the lock

  const std::vector<core_id> cores_;
  std::mutex mutex_;  // of all below
  std::size_t threads_max_;
  std::condition_variable changed_;
  std::condition_variable idle_;
  std::deque<call> calls_;
  std::size_t free_ = 0;  // threads that wait for a call
  bool closing_ = false;
  std::vector<pinned_thread> threads_;
};

namespace detail {

/// Posts until there is room: a core always gets to its calls.
void come_home(reactor& home, reactor::function f, void* context) noexcept;

/// Work under way elsewhere, in the frame of the task that waits for it. It cannot be cancelled:
/// the task goes on when the work has ended.
template <class F, class T>
class [[nodiscard]] offload_wait {
 public:
  offload_wait(offloader& where, F f) noexcept : where_{where}, f_{std::move(f)} {}

  [[nodiscard]] bool await_ready() const noexcept { return false; }
  template <std::derived_from<promise_base> Promise>
  void await_suspend(std::coroutine_handle<Promise> task) {
    task_ = &task.promise();
    task_->waits_for = "work of another thread";
    home_ = reactor::current();
    where_.enqueue([](void* self) noexcept { static_cast<offload_wait*>(self)->work(); }, this);
  }
  T await_resume() {
    if constexpr (!std::is_void_v<T>) {
      return std::move(*value_);
    }
  }

 private:
  void work() noexcept {
    if constexpr (std::is_void_v<T>) {
      f_();
    } else {
      value_.emplace(f_());
    }
    come_home(
        *home_,
        [](void* self) noexcept {
          const auto& ended = *static_cast<offload_wait*>(self);
          ended.home_->ready(*ended.task_);
        },
        this);
  }

  offloader& where_;
  F f_;
  std::optional<stored<T>> value_;
  promise_base* task_ = nullptr;
  reactor* home_ = nullptr;
};

}  // namespace detail

/// `co_await offload(threads, f)`: calls `f()` on another thread and waits for its result. `f` and
/// what it refers to stay in the caller's frame; an exception that leaves it terminates.
template <class F>
[[nodiscard]] auto offload(offloader& where, F f) {
  return detail::offload_wait<F, std::invoke_result_t<F&>>{where, std::move(f)};
}

}  // namespace runnel
