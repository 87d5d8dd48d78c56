#pragma once

#include <concepts>
#include <coroutine>
#include <optional>
#include <type_traits>
#include <utility>

#include "mempool/base/check.h"
#include "runtime/gate.h"
#include "runtime/mailbox.h"
#include "runtime/reactor.h"
#include "runtime/task.h"

// Work on another core. A frame never changes core: `on` starts a new root task over there, and its
// result comes back as a message.
namespace runnel {
namespace detail {

/// One call, in the frame of the task that waits for it. Its members belong to one core each; what
/// the other core reads it reads after a message.
class remote_call {
 public:
  remote_call(mailbox& home, mailbox& there) noexcept
      : home_{home},
        there_{there},
        cancellable_{[](void* self, const gate& owner) noexcept {
                       static_cast<remote_call*>(self)->forward_cancel(owner);
                     },
                     this} {}

  class end_wait {
   public:
    explicit end_wait(remote_call& call) noexcept : call_{call} {}
    [[nodiscard]] bool await_ready() const noexcept { return false; }
    template <std::derived_from<promise_base> Promise>
    void await_suspend(std::coroutine_handle<Promise> task) noexcept {
      call_.wait(task.promise());
    }
    void await_resume() const noexcept {}

   private:
    remote_call& call_;
  };
  /// Home: waits until the other core knows nothing of the call any more.
  [[nodiscard]] end_wait ended() noexcept { return end_wait{*this}; }

  /// There: runs the call's work to its end in a gate of its own, and reports.
  void start(task<> work) noexcept;

 private:
  static task<> report_end(remote_call& call);
  static task<> report_cancel_missed(remote_call& call);
  void wait(promise_base& task) noexcept;
  void forward_cancel(const gate& owner) noexcept;
  void cancel_there() noexcept;
  void finish_if_over() noexcept;

  // home's
  mailbox& home_;
  mailbox& there_;
  cancellable cancellable_;
  promise_base* waiting_ = nullptr;
  bool cancel_sent_ = false;
  bool cancel_answered_ = false;
  bool over_ = false;

  // the other core's; home reads `cancelled_there_` once the call is over
  std::optional<gate> gate_;
  bool cancelled_there_ = false;
};

struct nothing {};
template <class T>
using stored = std::conditional_t<std::is_void_v<T>, nothing, T>;

template <class F, class T>
task<> run_there(F& f, reactor& there, std::optional<stored<T>>& value) {
  task<T> work = f(there);
  if constexpr (std::is_void_v<T>) {
    co_await std::move(work);
    value.emplace();
  } else {
    T result = co_await std::move(work);
    value.emplace(std::move(result));
  }
}

}  // namespace detail

/// Runs `f(reactor&) -> task<T>` on another core of the same engine and waits for its result. `f`
/// and what it refers to stay here, and are used there meanwhile. Cancelling the caller cancels the
/// work, and the caller goes on when that has ended. The own core may be named, too.
template <class F>
auto on(reactor& there, F f) -> task<typename std::invoke_result_t<F&, reactor&>::value_type> {
  using value_type = typename std::invoke_result_t<F&, reactor&>::value_type;
  mailbox* const home = reactor::current()->mail();
  mailbox* const away = there.mail();
  CHECK(home != nullptr && away != nullptr);
  std::optional<detail::stored<value_type>> value;
  detail::remote_call call{*home, *away};
  const auto begin = [&call, &f, &there, &value]() noexcept {
    call.start(detail::run_there<F, value_type>(f, there, value));
  };
  const message order{begin};
  co_await home->send(*away, order);
  co_await call.ended();
  if constexpr (!std::is_void_v<value_type>) {
    co_return std::move(*value);
  }
}

}  // namespace runnel
