#pragma once

#include <atomic>

namespace runnel::nvme {

/// Keeps apart the core that looks after a controller and those that ring its doorbells by message.
/// Nobody waits for it: who finds it taken tries again at its next poll, or its next advance.
/// @context any core of the controller
class transport_guard {
 public:
  /// False: another core has it.
  [[nodiscard]] bool try_enter() noexcept {
    return !taken_.test_and_set(std::memory_order_acquire);  // pairs with `leave`
  }
  void leave() noexcept { taken_.clear(std::memory_order_release); }  // pairs with `try_enter`

  /// Has it as long as it lives, if it is true.
  class turn {
   public:
    explicit turn(transport_guard& of) noexcept : guard_{of.try_enter() ? &of : nullptr} {}
    turn(const turn&) = delete;
    turn& operator=(const turn&) = delete;
    ~turn() {
      if (guard_ != nullptr) {
        guard_->leave();
      }
    }
    explicit operator bool() const noexcept { return guard_ != nullptr; }

   private:
    transport_guard* guard_;
  };

 private:
  std::atomic_flag taken_;
};

}  // namespace runnel::nvme
