#include "apps/target/interrupt_lines.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <utility>

#include "drivers/vfio_user/eventfd_signal.h"
#include "mempool/base/check.h"
#include "mempool/base/checked.h"

namespace runnel::target {
namespace {

/// Files without a type in the kernel's eyes are eventfds and their like, where a write that makes
/// no sense fails and does nothing else.
bool acceptable(const unique_fd& eventfd) noexcept {
  struct stat status{};
  return !eventfd || (::fstat(eventfd.get(), &status) == 0 && (status.st_mode & S_IFMT) == 0 &&
                      ::fcntl(eventfd.get(), F_SETFL, O_NONBLOCK) == 0);
}

}  // namespace

interrupt_lines::interrupt_lines(std::size_t vectors) : vectors_(vectors) {}

bool interrupt_lines::assign(std::size_t start, std::span<unique_fd> eventfds) noexcept {
  CHECK(range_within(start, eventfds.size(), vectors_.size()));
  if (!std::ranges::all_of(eventfds, acceptable)) {
    return false;
  }
  for (std::size_t i = 0; i < eventfds.size(); ++i) {
    line& which = vectors_[start + i];
    which.eventfd = std::move(eventfds[i]);
    if (which.pending) {
      deliver(which);
    }
  }
  return true;
}

void interrupt_lines::clear() noexcept {
  for (line& which : vectors_) {
    which.eventfd.reset();
    which.pending = false;
  }
}

void interrupt_lines::raise(std::size_t vector) noexcept {
  CHECK(vector < vectors_.size());
  deliver(vectors_[vector]);
}

bool interrupt_lines::try_out(std::size_t start, std::size_t count) const noexcept {
  CHECK(range_within(start, count, vectors_.size()));
  const auto can_tell = [](const line& each) { return static_cast<bool>(each.eventfd); };
  for (const line& each : std::span{vectors_}.subspan(start, count)) {
    if (can_tell(each)) {
      vfio_user::signal_eventfd(each.eventfd.get());
    }
  }
  return std::ranges::any_of(vectors_, can_tell);
}

void interrupt_lines::mask(bool masked) noexcept {
  masked_ = masked;
  if (masked) {
    return;
  }
  for (line& which : vectors_) {
    if (which.pending) {
      deliver(which);
    }
  }
}

void interrupt_lines::deliver(line& which) noexcept {
  which.pending = masked_ || !which.eventfd;
  if (which.pending) {
    return;
  }
  vfio_user::signal_eventfd(which.eventfd.get());
}

}  // namespace runnel::target
