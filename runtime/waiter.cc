#include "runtime/waiter.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <ctime>

#include "mempool/base/unique_fd.h"

namespace runnel {
namespace {

class epoll_waiter final : public waiter {
 public:
  epoll_waiter(unique_fd epoll, unique_fd wake) noexcept
      : epoll_{std::move(epoll)}, wake_{std::move(wake)} {}

  result<> watch(int fd, void* token) noexcept override {
    epoll_event interest{};
    interest.events = EPOLLIN;
    interest.data.ptr = token;
    if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &interest) != 0) {
      return std::unexpected{os_error()};
    }
    return {};
  }

  void forget(int fd) noexcept override {
    // Fails only when the fd is closed already, and then epoll has forgotten it by itself.
    (void)epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr);
  }

  std::size_t wait(instant now, instant until, std::span<void*> readable) noexcept override {
    std::array<epoll_event, 32> events;
    const auto room = static_cast<int>(std::min(events.size(), readable.size()));
    const int found = collect({events.data(), static_cast<std::size_t>(room)}, now, until);
    std::size_t count = 0;
    for (int index = 0; index < found; ++index) {
      void* const token = events[static_cast<std::size_t>(index)].data.ptr;
      if (token == this) {
        eventfd_t ignored = 0;
        (void)eventfd_read(wake_.get(), &ignored);  // it is readable; only its end of sleep matters
      } else {
        readable[count++] = token;
      }
    }
    return count;
  }

  void interrupt() noexcept override {
    // Fails only when the counter is at its maximum, and then the waiter is being woken already.
    (void)eventfd_write(wake_.get(), 1);
  }

 private:
  /// @return events filled; 0 also when a signal came: the caller's loop looks again
  int collect(std::span<epoll_event> events, instant now, instant until) noexcept {
    const auto room = static_cast<int>(events.size());
    if (until <= now) {
      return epoll_wait(epoll_.get(), events.data(), room, 0);
    }
    if (until == never) {
      return epoll_wait(epoll_.get(), events.data(), room, -1);
    }
    const auto nanoseconds_left =
        std::max((until - now - waking_takes).count(), nanoseconds::rep{0});
    timespec timeout{};
    timeout.tv_sec = nanoseconds_left / 1'000'000'000;
    timeout.tv_nsec = nanoseconds_left % 1'000'000'000;
    const int found = epoll_pwait2(epoll_.get(), events.data(), room, &timeout, nullptr);
    if (found >= 0 || errno != ENOSYS) {
      return found;
    }
    // Kernels before 5.11 know milliseconds only; rounding up is not to wake for nothing.
    const auto milliseconds = std::min<std::int64_t>(nanoseconds_left / 1'000'000 + 1, 60'000);
    return epoll_wait(epoll_.get(), events.data(), room, static_cast<int>(milliseconds));
  }

  unique_fd epoll_;
  unique_fd wake_;
};

}  // namespace

outcome<std::unique_ptr<waiter>> make_epoll_waiter() {
  unique_fd epoll{epoll_create1(EPOLL_CLOEXEC)};
  if (!epoll) {
    return fail(os_error(), "create", "an epoll instance", "check `ulimit -n`");
  }
  unique_fd wake{eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
  if (!wake) {
    return fail(os_error(), "create", "an eventfd", "check `ulimit -n`");
  }
  const int wake_fd = wake.get();
  auto made = std::make_unique<epoll_waiter>(std::move(epoll), std::move(wake));
  const result<> watched = made->watch(wake_fd, made.get());
  if (!watched) {
    return fail(watched.error(), "watch", "an eventfd");
  }
  return made;
}

}  // namespace runnel
