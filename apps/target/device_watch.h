#pragma once

#include <algorithm>
#include <array>
#include <chrono>
#include <deque>
#include <span>

#include "apps/target/io_shared.h"
#include "mempool/base/check.h"
#include "runtime/io/queue_wake.h"
#include "runtime/reactor.h"

namespace runnel::target {

/// Has the devices behind the paths of one core wake it, and polls those without requests now and
/// then: one that was reset waits until each of its queues was polled.
/// @context one core
class device_watch {
 public:
  explicit device_watch(std::span<namespace_path> paths) : paths_{paths} {
    for (const namespace_path& path : paths) {
      wakes_.emplace_back(*path.queue);
    }
  }

  void attach(reactor& core) noexcept {
    core_ = &core;
    for (io::queue_wake& wake : wakes_) {
      wake.attach(core);
    }
    core.set_timer(look_, core.now() + period);
  }
  void detach() noexcept {
    core_->cancel_timer(look_);
    for (io::queue_wake& wake : wakes_) {
      wake.detach();
    }
  }
  [[nodiscard]] bool arm() noexcept {
    return std::ranges::all_of(wakes_, [](io::queue_wake& wake) { return wake.arm(); });
  }
  void disarm() noexcept {
    for (io::queue_wake& wake : wakes_) {
      wake.disarm();
    }
  }

 private:
  static constexpr nanoseconds period = std::chrono::milliseconds{100};

  struct look_timer final : timer {
    explicit look_timer(device_watch& whose) noexcept : timer{on_deadline}, owner{whose} {}
    static void on_deadline(timer& self) noexcept {
      static_cast<look_timer&>(self).owner.look_at_idle_devices();
    }
    device_watch& owner;
  };

  void look_at_idle_devices() noexcept {
    std::array<block_completion, 1> none;
    for (const namespace_path& path : paths_) {
      if (path.idle()) {
        CHECK(path.queue->poll(none) == 0);
      }
    }
    core_->set_timer(look_, core_->now() + period);
  }

  std::span<namespace_path> paths_;
  std::deque<io::queue_wake> wakes_;  // they stay where they are
  reactor* core_ = nullptr;
  look_timer look_{*this};
};

}  // namespace runnel::target
