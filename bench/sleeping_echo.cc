#include "bench/sleeping_echo.h"

#include <sched.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>

#include "mempool/base/unique_fd.h"
#include "runtime/thread.h"
#include "runtime/waiter.h"

namespace runnel::bench {
namespace {

using steady = std::chrono::steady_clock;

constexpr std::chrono::seconds call_overdue{10};  // longer than any silence
constexpr std::chrono::seconds answer_overdue{5};

/// A counter that one process raises and another sleeps on.
class bell {
 public:
  [[nodiscard]] static result<bell> create() noexcept {
    bell made;
    made.counter_ = unique_fd{eventfd(0, EFD_CLOEXEC)};
    made.epoll_ = unique_fd{epoll_create1(EPOLL_CLOEXEC)};
    epoll_event interest{.events = EPOLLIN, .data = {}};
    if (epoll_ctl(made.epoll_.get(), EPOLL_CTL_ADD, made.counter_.get(), &interest) != 0) {
      return std::unexpected{os_error()};
    }
    return made;
  }

  void ring() const noexcept { eventfd_write(counter_.get(), 1); }

  /// Sleeps until it rings. @error timed_out, os
  [[nodiscard]] result<> await(nanoseconds patience) const noexcept {
    const std::int64_t ns = std::max<std::int64_t>(patience.count(), 0);
    const timespec timeout{.tv_sec = ns / 1'000'000'000, .tv_nsec = ns % 1'000'000'000};
    epoll_event event{};
    const int found = epoll_pwait2(epoll_.get(), &event, 1, &timeout, nullptr);
    if (found <= 0) {
      return found == 0 ? fail(errc::timed_out) : std::unexpected{os_error()};
    }
    eventfd_t rings = 0;
    eventfd_read(counter_.get(), &rings);
    return {};
  }

 private:
  unique_fd counter_;
  unique_fd epoll_;
};

/// The process that answers; ended with us.
class answerer {
 public:
  answerer(core_id core, const bell& call, const bell& answer) noexcept : pid_{fork()} {
    if (pid_ == 0) {
      serve(core, call, answer);
    }
  }
  answerer(const answerer&) = delete;
  answerer& operator=(const answerer&) = delete;
  ~answerer() {
    if (pid_ > 0) {
      kill(pid_, SIGKILL);
      waitpid(pid_, nullptr, 0);
    }
  }

  [[nodiscard]] bool running() const noexcept { return pid_ > 0; }

 private:
  [[noreturn]] static void serve(core_id core, const bell& call, const bell& answer) noexcept {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(raw(core), &set);
    if (sched_setaffinity(0, sizeof set, &set) == 0) {
      while (call.await(call_overdue)) {
        answer.ring();
      }
    }
    _exit(0);  // whoever waits for an answer notices
  }

  pid_t pid_;
};

struct caller {
  const bell& call;
  const bell& answer;
  std::chrono::milliseconds silence;
  std::size_t trips;
  std::vector<double> us;
  result<> ended;
};

/// @return microseconds of one trip
result<double> make_trip(const caller& self) noexcept {
  const steady::time_point due = steady::now() + self.silence;
  const result<> early = self.answer.await(self.silence - waking_takes);
  if (early || early.error().code != errc::timed_out) {  // nobody rings unasked
    return std::unexpected{early ? error{errc::protocol} : early.error()};
  }
  while (steady::now() < due) {
  }
  self.call.ring();
  if (auto answered = self.answer.await(answer_overdue); !answered) {
    return std::unexpected{answered.error()};
  }
  return std::chrono::duration<double, std::micro>{steady::now() - due}.count();
}

void make_trips(void* context) noexcept {
  auto& self = *static_cast<caller*>(context);
  prctl(PR_SET_TIMERSLACK, 1UL, 0UL, 0UL, 0UL);  // as an engine's cores do
  while (self.us.size() < self.trips) {
    const result<double> us = make_trip(self);
    if (!us) {
      self.ended = std::unexpected{us.error()};
      return;
    }
    self.us.push_back(*us);
  }
}

}  // namespace

outcome<std::vector<double>> sleeping_echo_us(const echo_cores& cores,
                                              std::chrono::milliseconds silence,
                                              std::size_t trips) {
  const auto refuse = [](error why) { return fail(why, "measure", "two processes that sleep"); };
  const auto call = bell::create();
  const auto answer = bell::create();
  if (!call || !answer) {
    return refuse(call ? answer.error() : call.error());
  }
  const answerer peer{cores.answerer, *call, *answer};
  if (!peer.running()) {
    return refuse(os_error());
  }
  caller self{
      .call = *call, .answer = *answer, .silence = silence, .trips = trips, .us = {}, .ended = {}};
  self.us.reserve(trips);
  {
    const auto thread = pinned_thread::start({&cores.caller, 1}, "caller", make_trips, &self);
    if (!thread) {
      return std::unexpected{thread.error()};
    }
  }
  if (!self.ended) {
    return refuse(self.ended.error());
  }
  return std::move(self.us);
}

}  // namespace runnel::bench
