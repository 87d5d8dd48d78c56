#pragma once

#include <atomic>

#include "drivers/mmio.h"

namespace runnel::nvme {

/// Keeps apart the core that looks after a controller and those that ring its doorbells by message.
/// Held for one call of the transport, so whoever must have it spins.
/// @context any core of the controller
class transport_guard {
 public:
  /// False: another core has it.
  [[nodiscard]] bool try_enter() noexcept {
    return !taken_.test_and_set(std::memory_order_acquire);  // pairs with `leave`
  }
  void enter() noexcept {
    while (!try_enter()) {
      cpu_pause();
    }
  }
  void leave() noexcept { taken_.clear(std::memory_order_release); }  // pairs with `try_enter`

  /// Has it as long as it lives.
  class turn {
   public:
    explicit turn(transport_guard& of) noexcept : guard_{of} { guard_.enter(); }
    turn(const turn&) = delete;
    turn& operator=(const turn&) = delete;
    ~turn() { guard_.leave(); }

   private:
    transport_guard& guard_;
  };

 private:
  std::atomic_flag taken_;
};

}  // namespace runnel::nvme
