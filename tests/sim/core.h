#pragma once

#include <poll.h>

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "mempool/base/clock.h"
#include "runtime/reactor.h"
#include "runtime/waiter.h"

// One simulated core: the real reactor on a clock that moves only when there is nothing else to do.
namespace runnel::sim {

/// File descriptors are real, time is not: a wait with nothing to read moves the clock to its end.
class waiter final : public runnel::waiter {
 public:
  explicit waiter(virtual_clock& clock) noexcept : clock_{clock} {}

  result<> watch(int fd, void* token) noexcept override {
    watched_.push_back({fd, token});
    return {};
  }
  void forget(int fd) noexcept override {
    std::erase_if(watched_, [fd](const entry& each) { return each.fd == fd; });
  }
  std::size_t wait(instant, instant until, std::span<void*> readable) noexcept override {
    std::size_t count = 0;
    for (const entry& each : watched_) {
      pollfd look{};
      look.fd = each.fd;
      look.events = POLLIN;
      if (count < readable.size() && ::poll(&look, 1, 0) == 1) {
        readable[count++] = each.token;
      }
    }
    if (count == 0 && !std::exchange(interrupted_, false) && until != never) {
      clock_.advance_to(until);
    }
    return count;
  }
  void interrupt() noexcept override { interrupted_ = true; }

 private:
  struct entry {
    int fd;
    void* token;
  };
  virtual_clock& clock_;
  std::vector<entry> watched_;
  bool interrupted_ = false;
};

/// A reactor with its clock. @context one thread, which may have several of these
struct core {
  virtual_clock clock;
  reactor loop;

  explicit core(const reactor_options& options = {})
      : loop{clock, std::make_unique<waiter>(clock), options} {}

  /// Turns, and lets time pass when there is nothing to do, until `done()` holds.
  /// @return false: it did not within `turns_max`
  template <class Done>
  bool run_until(Done&& done, int turns_max = 1'000'000) {
    for (int turn = 0; turn < turns_max; ++turn) {
      if (done()) {
        return true;
      }
      if (!loop.turn()) {
        loop.wait();
      }
    }
    return false;
  }

  /// Lets `duration` pass, and all that happens in it happen.
  void run_for(nanoseconds duration) {
    const instant end = clock.now() + duration;
    timer alarm{[](timer&) noexcept {}};  // so that no wait goes beyond it
    loop.set_timer(alarm, end);
    for (;;) {
      const bool found = loop.turn();
      if (!found && !alarm.armed()) {
        return;
      }
      if (!found) {
        loop.wait();
      }
    }
  }
};

}  // namespace runnel::sim
