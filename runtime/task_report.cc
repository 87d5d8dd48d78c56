#include "runtime/task_report.h"

#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <coroutine>
#include <string_view>

#include "mempool/base/clock.h"
#include "runtime/promise.h"

namespace runnel {
namespace {

constexpr nanoseconds answer_limit{1'000'000'000};

const promise_base& promise_of(void* frame) noexcept {
  return std::coroutine_handle<promise_base>::from_address(frame).promise();
}

/// What a spawned task waits for in the end. The tasks that it awaits are not looked for among the
/// frames: compilers may put the frame of an awaited task into that of the task which awaits it.
waiting_tasks innermost(const promise_base& spawned) noexcept {
  const promise_base* task = &spawned;
  std::uint32_t depth = 0;
  while (task->waits_for == waits_for_child.data()) {
    task = task->awaits;
    ++depth;
  }
  return {.name = spawned.name, .waits_for = task->waits_for, .depth = depth, .count = 1};
}

/// A report is read by people and worth no error of its own: what cannot be written is lost.
void write_out(std::string_view text) noexcept {
  while (!text.empty()) {
    const ssize_t written = ::write(STDERR_FILENO, text.data(), text.size());
    if (written <= 0) {
      return;
    }
    text.remove_prefix(static_cast<std::size_t>(written));
  }
}

}  // namespace

std::vector<waiting_tasks> waiting_on(const reactor& core) {
  std::vector<waiting_tasks> kinds;
  core.frames().for_each([&kinds](void* frame) {
    const promise_base& task = promise_of(frame);
    if (!task.started || task.parent != nullptr) {
      return;
    }
    const waiting_tasks seen = innermost(task);
    const auto same = std::ranges::find_if(kinds, [&seen](const waiting_tasks& kind) {
      return kind.name == seen.name && kind.waits_for == seen.waits_for && kind.depth == seen.depth;
    });
    if (same != kinds.end()) {
      ++same->count;
    } else {
      kinds.push_back(seen);
    }
  });
  return kinds;
}

std::string describe_tasks(const reactor& core) {
  std::string text =
      fmt::format("core {}: {} frames, {} from the heap since the start\n", raw(core.core()),
                  core.frames().frames_in_use(), core.frames().heap_frames());
  for (const waiting_tasks& kind : waiting_on(core)) {
    text += fmt::format("{:>8} x {}, {} deep: waits for {}\n", kind.count, kind.name, kind.depth,
                        kind.waits_for);
  }
  return text;
}

outcome<std::unique_ptr<task_report>> task_report::on_signal(int signal, engine& host) {
  sigset_t wanted;
  sigemptyset(&wanted);
  sigaddset(&wanted, signal);
  unique_fd signals{signalfd(-1, &wanted, SFD_CLOEXEC)};
  unique_fd orders{eventfd(0, EFD_CLOEXEC)};
  if (!signals || !orders) {
    return fail(os_error(), "wait for", "signals");
  }
  return std::unique_ptr<task_report>{new task_report{host, std::move(signals), std::move(orders)}};
}

task_report::task_report(engine& host, unique_fd signals, unique_fd orders)
    : signals_{std::move(signals)}, orders_{std::move(orders)} {
  for (std::size_t index = 0; index < host.core_count(); ++index) {
    questions_.push_back(std::make_unique<question>());
    questions_.back()->core = &host.core(index);
  }
  thread_ = std::thread{[this] { serve(); }};
}

task_report::~task_report() {
  order to_end;
  give(to_end);
  thread_.join();
  for (const auto& each : questions_) {
    if (each->asked) {
      each->answered.acquire();  // it refers to us
    }
  }
}

outcome<> task_report::confine(const confinement& how) {
  order to_confine;
  to_confine.how = &how;
  give(to_confine);
  to_confine.done.acquire();
  return std::move(to_confine.entered);
}

void task_report::give(order& what) noexcept {
  order_.store(&what, std::memory_order_release);  // pairs with serve()
  CHECK(eventfd_write(orders_.get(), 1) == 0);
}

void task_report::serve() noexcept {
  std::array<pollfd, 2> watched{{{.fd = signals_.get(), .events = POLLIN, .revents = 0},
                                 {.fd = orders_.get(), .events = POLLIN, .revents = 0}}};
  while (true) {
    ::poll(watched.data(), watched.size(), -1);
    signalfd_siginfo came{};
    if (watched[0].revents != 0 && ::read(signals_.get(), &came, sizeof came) == sizeof came) {
      write_report();
    }
    eventfd_t given = 0;
    if (watched[1].revents == 0 || eventfd_read(orders_.get(), &given) != 0) {
      continue;
    }
    order& what = *order_.load(std::memory_order_acquire);  // pairs with give()
    if (what.how == nullptr) {
      return;
    }
    what.entered = what.how->enter(thread_role::helper);
    what.done.release();
  }
}

void task_report::write_report() {
  for (const auto& each : questions_) {
    write_out(ask(*each));
  }
}

/// A core that is stuck in a task cannot answer; that is worth knowing too.
std::string task_report::ask(question& one) {
  const auto answer = [](void* context) noexcept {
    auto& asked = *static_cast<question*>(context);
    asked.answer = describe_tasks(*asked.core);
    asked.answered.release();
  };
  one.asked = one.asked || one.core->post(answer, &one).has_value();
  if (!one.asked || !one.answered.try_acquire_for(answer_limit)) {
    return fmt::format("core {}: does not answer; a task or a device holds it up\n",
                       raw(one.core->core()));
  }
  one.asked = false;
  return std::move(one.answer);
}

}  // namespace runnel
