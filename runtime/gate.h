#pragma once

#include <concepts>
#include <coroutine>
#include <cstddef>

#include "runtime/reactor.h"
#include "runtime/task.h"

namespace runnel {

/// Owns tasks that nobody awaits. Two problems it solves: things the tasks use must outlive them
/// (close the gate first), and they must be able to end early (cancel it).
///
/// Cancelling resumes every wait of the gate's tasks, and every later one, with `errc::cancelled`;
/// the tasks then end by themselves. It destroys no frame and frees no memory under DMA. A task
/// that is closing a gate of its own passes the cancellation on to it.
/// @context one core
class gate {
 public:
  explicit gate(reactor& core) noexcept
      : core_{core},
        closing_{[](void* self, const gate& owner) noexcept {
                   static_cast<gate*>(self)->cancel_for(owner);
                 },
                 this} {}
  gate(const gate&) = delete;
  gate& operator=(const gate&) = delete;
  ~gate();  // all tasks have ended

  /// Starts a task in this turn or the next. @param name static; for reports
  void spawn(task<> work, const char* name = "task") noexcept;

  void cancel() noexcept;
  [[nodiscard]] bool cancelled() const noexcept { return cancelled_; }

  /// Tasks that have not ended.
  [[nodiscard]] std::size_t size() const noexcept { return size_; }

  class close_wait {
   public:
    explicit close_wait(gate& which) noexcept : gate_{which} {}
    [[nodiscard]] bool await_ready() const noexcept { return gate_.size_ == 0; }
    template <std::derived_from<promise_base> Promise>
    void await_suspend(std::coroutine_handle<Promise> task) noexcept {
      gate_.begin_close(task.promise());
    }
    void await_resume() const noexcept {}

   private:
    gate& gate_;
  };

  /// Waits until every task has ended, which their own deadlines bound. One closer at a time.
  [[nodiscard]] close_wait close() noexcept { return close_wait{*this}; }

 private:
  friend class reactor;
  friend void end_detached(promise_base& task) noexcept;

  void begin_close(promise_base& closer) noexcept;
  void leave() noexcept;
  void cancel_for(const gate& owner) noexcept;

  reactor& core_;
  std::size_t size_ = 0;
  cancellable closing_;  // registered while a task waits for our end
  promise_base* closer_ = nullptr;
  bool cancelled_ = false;
};

/// Whether the gate that owns `task` was cancelled. For awaiters, off the hot path.
[[nodiscard]] inline bool is_cancelled(const promise_base& task) noexcept {
  return task.owner != nullptr && task.owner->cancelled();
}

}  // namespace runnel
