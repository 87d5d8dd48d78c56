#include "runtime/io/queue_wake.h"

#include <utility>

namespace runnel::io {

/// Nothing is done here but to take back what made the descriptor readable: the core is awake, and
/// polls.
queue_wake::queue_wake(block_queue& queue) noexcept
    : queue_{queue},
      waking_{[](void* self, instant) noexcept {
                static_cast<queue_wake*>(self)->disarm();
                return never;
              },
              this, queue.wake_fd(), "wake of a queue"} {}

void queue_wake::attach(reactor& core) noexcept {
  if (core.polling() == poll_mode::adaptive && queue_.wake_fd() >= 0 &&
      core.add_service(waking_).has_value()) {
    core_ = &core;
  }
}

void queue_wake::detach() noexcept {
  if (core_ != nullptr) {
    std::exchange(core_, nullptr)->remove_service(waking_);
  }
}

bool queue_wake::arm() noexcept {
  return (core_ != nullptr || queue_.wake_fd() < 0) && queue_.arm();
}

}  // namespace runnel::io
