#include "runtime/on.h"

namespace runnel::detail {

void remote_call::start(task<> work) noexcept {
  gate_.emplace(there_.core());
  gate_->spawn(std::move(work), "visitor");
  there_.visitors().spawn(report_end(*this), "end of visit");
}

/// After its message nothing here may touch the call: home may have left it.
task<> remote_call::report_end(remote_call& call) {
  co_await call.gate_->close();
  call.gate_.reset();
  const message over{[&call]() noexcept {
    call.over_ = true;
    call.finish_if_over();
  }};
  co_await call.there_.send(call.home_, over);
}

/// Home waits for an answer to its cancellation, which came when the call had ended.
task<> remote_call::report_cancel_missed(remote_call& call) {
  const message missed{[&call]() noexcept {
    call.cancel_answered_ = true;
    call.finish_if_over();
  }};
  co_await call.there_.send(call.home_, missed);
}

void remote_call::wait(promise_base& task) noexcept {
  waiting_ = &task;
  task.waits_for = "work on another core";
  home_.core().add_cancellable(cancellable_);
}

/// Called every turn until it could be sent.
void remote_call::forward_cancel(const gate& owner) noexcept {
  if (waiting_->owner == &owner && !cancel_sent_) {
    cancel_sent_ = home_.try_send(there_, message{[this]() noexcept { cancel_there(); }});
  }
}

void remote_call::cancel_there() noexcept {
  if (gate_) {
    cancelled_there_ = true;
    gate_->cancel();
  } else {
    there_.visitors().spawn(report_cancel_missed(*this), "end of visit");
  }
}

void remote_call::finish_if_over() noexcept {
  if (!over_ || (cancel_sent_ && !cancelled_there_ && !cancel_answered_)) {
    return;
  }
  home_.core().remove_cancellable(cancellable_);
  home_.core().ready(*waiting_);
}

}  // namespace runnel::detail
