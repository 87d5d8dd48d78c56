#include "runtime/io/offloaded_calls.h"

#include <sys/eventfd.h>

#include <algorithm>
#include <mutex>
#include <utility>

#include "mempool/base/check.h"

namespace runnel::io {

/// Belongs to who started it until that one abandons it, and to the thread that runs it from then
/// on; the lock decides which of them comes last.
class offloaded_calls::call {
 public:
  call(ticket id, int wake, std::unique_ptr<vfio::blocking_job> job) noexcept
      : id_{id}, wake_{wake}, job_{std::move(job)} {}

  [[nodiscard]] ticket id() const noexcept { return id_; }

  static void run(void* self) noexcept {
    auto* const mine = static_cast<call*>(self);
    mine->job_->run();
    if (!mine->tell()) {
      delete mine;
    }
  }
  /// The job when it has run, else null.
  [[nodiscard]] std::unique_ptr<vfio::blocking_job> take() noexcept {
    const std::scoped_lock lock{mutex_};
    if (!ended_) {
      return nullptr;
    }
    forget_event();
    return std::move(job_);
  }
  /// True: it has run already, and is still the caller's.
  [[nodiscard]] bool abandon() noexcept {
    const std::scoped_lock lock{mutex_};
    abandoned_ = true;
    if (ended_) {
      forget_event();
    }
    return ended_;
  }

 private:
  /// False: nobody wants to know.
  [[nodiscard]] bool tell() noexcept {
    const std::scoped_lock lock{mutex_};
    ended_ = true;
    if (!abandoned_) {
      CHECK(::eventfd_write(wake_, 1) == 0);
    }
    return !abandoned_;
  }
  void forget_event() const noexcept {
    eventfd_t one = 0;
    CHECK(::eventfd_read(wake_, &one) == 0);
  }

  const ticket id_;
  const int wake_;  // of the owner
  std::mutex mutex_;
  bool ended_ = false;
  bool abandoned_ = false;
  std::unique_ptr<vfio::blocking_job> job_;
};

result<std::unique_ptr<offloaded_calls>> offloaded_calls::create(offloader& threads) {
  unique_fd wake{::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK | EFD_SEMAPHORE)};
  if (!wake) {
    return std::unexpected{os_error()};
  }
  return std::unique_ptr<offloaded_calls>{new offloaded_calls{threads, std::move(wake)}};
}

offloaded_calls::offloaded_calls(offloader& threads, unique_fd wake) noexcept
    : threads_{&threads}, wake_{std::move(wake)} {}

offloaded_calls::~offloaded_calls() {
  CHECK(calls_.empty());
}

result<ticket> offloaded_calls::start(std::unique_ptr<vfio::blocking_job>& job) noexcept {
  CHECK(job != nullptr);
  if (calls_.size() == calls_max) {
    return fail(errc::queue_full);
  }
  const ticket id{++last_id_};
  calls_.push_back(std::make_unique<call>(id, wake_.get(), std::move(job)));
  threads_->enqueue(call::run, calls_.back().get());
  return id;
}

std::unique_ptr<vfio::blocking_job> offloaded_calls::take(ticket which) noexcept {
  const auto at = find(which);
  auto job = (*at)->take();
  if (job != nullptr) {
    calls_.erase(at);
  }
  return job;
}

void offloaded_calls::abandon(ticket which) noexcept {
  const auto at = find(which);
  std::unique_ptr<call> mine = std::move(*at);
  calls_.erase(at);
  if (!mine->abandon()) {
    static_cast<void>(mine.release());  // its thread's, which may have deleted it by now
  }
}

offloaded_calls::call_list::iterator offloaded_calls::find(ticket which) noexcept {
  const auto at = std::ranges::find(calls_, which, [](const auto& each) { return each->id(); });
  CHECK(at != calls_.end());
  return at;
}

}  // namespace runnel::io
