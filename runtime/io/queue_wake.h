#pragma once

#include "drivers/block.h"
#include "runtime/reactor.h"

namespace runnel::io {

/// Has a queue wake its core: what a source that polls the queue arms and disarms. On a core that
/// never sleeps it does nothing.
/// @context one core; the queue outlives its attachment
class queue_wake {
 public:
  explicit queue_wake(block_queue& queue) noexcept;
  queue_wake(const queue_wake&) = delete;
  queue_wake& operator=(const queue_wake&) = delete;
  ~queue_wake() = default;  // detached

  void attach(reactor& core) noexcept;
  void detach() noexcept;

  /// See `source`. False, too, when the core could not watch the queue.
  [[nodiscard]] bool arm() noexcept;
  void disarm() noexcept { queue_.disarm(); }

 private:
  block_queue& queue_;
  reactor* core_ = nullptr;
  service waking_;
};

}  // namespace runnel::io
