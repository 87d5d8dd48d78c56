#include "runtime/wait.h"

#include "runtime/gate.h"
#include "runtime/reactor.h"

namespace runnel {

bool timed_wait::await_ready() const noexcept {
  return source_ != nullptr && source_->is_set() && core_.may_continue();
}

void timed_wait::begin(promise_base& task) noexcept {
  task_ = &task;
  task.waits_for = source_ != nullptr ? "an event" : "a time";
  if (source_ != nullptr && source_->is_set()) {  // only this turn's budget is spent
    outcome_ = is_cancelled(task) ? errc::cancelled : errc::ok;
    core_.ready_next_turn(task);
    return;
  }
  core_.waits_.push_back(*this);
  if (source_ != nullptr) {
    source_->waiters_.push_back(*this);
  }
  if (deadline_ != never) {
    core_.set_timer(*this, deadline_);
  }
}

void timed_wait::end(errc why) noexcept {
  static_cast<list_hook<waits_tag>&>(*this).unlink();
  static_cast<list_hook<event_tag>&>(*this).unlink();
  core_.cancel_timer(*this);
  outcome_ = why;
  core_.ready(*task_);
}

void timed_wait::on_deadline(timer& self) noexcept {
  auto& wait = static_cast<timed_wait&>(self);
  wait.end(wait.source_ == nullptr ? errc::ok : errc::timed_out);
}

result<> timed_wait::await_resume() const noexcept {
  if (outcome_ != errc::ok) {
    return fail(outcome_);
  }
  return {};
}

void yield_wait::begin(promise_base& task) noexcept {
  task_ = &task;
  task.waits_for = "its next turn";
  core_.ready_next_turn(task);
}

result<> yield_wait::await_resume() const noexcept {
  if (is_cancelled(*task_)) {
    return fail(errc::cancelled);
  }
  return {};
}

void event::set() noexcept {
  set_ = true;
  while (!waiters_.empty()) {
    waiters_.front().end(errc::ok);
  }
}

}  // namespace runnel
