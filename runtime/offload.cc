#include "runtime/offload.h"

#include <sched.h>

#include <iterator>
#include <latch>
#include <semaphore>

#include "mempool/base/check.h"

namespace runnel {

offloader::offloader(std::span<const core_id> cores, std::optional<std::size_t> threads_max)
    : cores_{cores.begin(), cores.end()}, threads_max_{threads_max.value_or(cores.size())} {
  CHECK(!cores_.empty());
  CHECK(threads_max_ > 0);
}

/// A call may be over for its task before its thread has left the reactor's inlet: threads end
/// first, and are joined as `threads_` goes.
offloader::~offloader() {
  {
    const std::scoped_lock lock{mutex_};
    closing_ = true;
  }
  changed_.notify_all();
  threads_.clear();
}

void offloader::enqueue(function f, void* context) {
  {
    const std::scoped_lock lock{mutex_};
    calls_.push_back({f, context});
    if (calls_.size() > free_ && threads_.size() < threads_max_) {
      start_thread();
    }
  }
  changed_.notify_one();
}

void offloader::start_thread() {
  auto thread = pinned_thread::start(
      cores_, "offload", [](void* self) noexcept { static_cast<offloader*>(self)->serve(); }, this);
  CHECK(thread || !threads_.empty());
  if (thread) {
    threads_.push_back(std::move(*thread));
  }
}

/// Each thread takes one call, for none ends before all have been taken.
outcome<> offloader::confine(const confinement& how) {
  {
    const std::scoped_lock lock{mutex_};
    if (threads_.empty()) {
      start_thread();
    }
    threads_max_ = threads_.size();
  }
  struct visit {
    const confinement& how;
    std::latch all_here;
    std::mutex mutex{};
    outcome<> entered{};  // the first failure
    std::counting_semaphore<> ended{0};
  } order{.how = how, .all_here = std::latch{std::ssize(threads_)}};
  for (std::size_t count = 0; count < threads_max_; ++count) {
    enqueue(
        [](void* context) noexcept {
          visit& taken = *static_cast<visit*>(context);
          taken.all_here.arrive_and_wait();
          auto entered = taken.how.enter(thread_role::helper);
          {
            const std::scoped_lock lock{taken.mutex};
            taken.entered = taken.entered ? std::move(entered) : std::move(taken.entered);
          }
          taken.ended.release();
        },
        &order);
  }
  for (std::size_t count = 0; count < threads_max_; ++count) {
    order.ended.acquire();
  }
  return std::move(order.entered);
}

bool offloader::wait_until_idle(nanoseconds limit) {
  std::unique_lock lock{mutex_};
  return idle_.wait_for(lock, limit, [this] { return calls_.empty() && free_ == threads_.size(); });
}

void offloader::serve() {
  std::unique_lock lock{mutex_};
  while (true) {
    ++free_;
    if (calls_.empty()) {
      idle_.notify_all();
    }
    changed_.wait(lock, [this] { return closing_ || !calls_.empty(); });
    --free_;
    if (calls_.empty()) {
      return;
    }
    const call next = calls_.front();
    calls_.pop_front();
    lock.unlock();
    next.run(next.context);
    lock.lock();
  }
}

void detail::come_home(reactor& home, reactor::function f, void* context) noexcept {
  while (!home.post(f, context)) {
    sched_yield();
  }
}

}  // namespace runnel
