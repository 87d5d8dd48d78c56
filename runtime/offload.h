#pragma once

#include <concepts>
#include <coroutine>
#include <memory>
#include <optional>
#include <span>
#include <type_traits>
#include <utility>

#include "mempool/base/units.h"
#include "runtime/on.h"
#include "runtime/promise.h"
#include "runtime/reactor.h"

namespace runnel {

/// Threads for work that blocks or is heavy, so that no reactor has to wait: a TBB arena on the
/// cores that have no reactor, or on all of ours when every one has. Threads start with the first
/// work; there is always at least one.
class offloader {
 public:
  using function = void (*)(void* context) noexcept;

  /// @param cores  where its threads may run, one thread for each  @pre not empty
  explicit offloader(std::span<const core_id> cores);
  offloader(const offloader&) = delete;
  offloader& operator=(const offloader&) = delete;
  ~offloader();  // waits for what still runs

  /// Has `f(context)` called by one of the threads. @context any thread; may allocate
  void enqueue(function f, void* context);

 private:
  struct arena;
  std::unique_ptr<arena> arena_;
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
