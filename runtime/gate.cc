#include "runtime/gate.h"

#include <algorithm>
#include <utility>

#include "mempool/base/check.h"

namespace runnel {

gate::~gate() {
  CHECK(size_ == 0);
  CHECK(closer_ == nullptr);
}

void gate::spawn(task<> work, const char* name) noexcept {
  promise_base& promise = std::move(work).detach();
  promise.owner = this;
  promise.name = name;
  promise.waits_for = "its first turn";
  if (size_++ == 0 && cancelled_) {
    core_.cancelled_gates_.push_back(this);
  }
  core_.ready(promise);
}

void gate::cancel() noexcept {
  if (!std::exchange(cancelled_, true) && size_ != 0) {
    core_.cancelled_gates_.push_back(this);  // the reactor ends our waits from its next turn on
  }
}

void gate::begin_close(promise_base& closer) noexcept {
  CHECK(closer_ == nullptr);
  CHECK(closer.owner != this);  // it would wait for itself
  closer_ = &closer;
  closer.waits_for = "the tasks of a gate";
  core_.add_cancellable(closing_);
}

void gate::cancel_for(const gate& owner) noexcept {
  if (closer_ != nullptr && closer_->owner == &owner) {
    cancel();
  }
}

void gate::leave() noexcept {
  CHECK(size_ != 0);
  if (--size_ != 0) {
    return;
  }
  if (cancelled_) {
    std::erase(core_.cancelled_gates_, this);
  }
  if (closer_ != nullptr) {
    core_.remove_cancellable(closing_);
    core_.ready(*std::exchange(closer_, nullptr));
  }
}

void end_detached(promise_base& task) noexcept {
  gate* const owner = task.owner;
  task.handle.destroy();
  owner->leave();
}

}  // namespace runnel
