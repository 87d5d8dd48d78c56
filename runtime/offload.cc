#include "runtime/offload.h"

#include <oneapi/tbb/task_arena.h>
#include <oneapi/tbb/task_group.h>
#include <oneapi/tbb/task_scheduler_observer.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <vector>

#include "mempool/base/check.h"

namespace runnel {
namespace {

/// Threads of TBB inherit the affinity of whoever made them, and that may be a reactor.
class placement final : public tbb::task_scheduler_observer {
 public:
  placement(tbb::task_arena& arena, std::span<const core_id> cores)
      : tbb::task_scheduler_observer{arena} {
    const unsigned last = raw(std::ranges::max(cores));
    set_.resize(CPU_ALLOC_SIZE(last + 1) / sizeof(cpu_mask_word));
    for (const core_id core : cores) {
      CPU_SET_S(raw(core), bytes(), set());
    }
    made_.store(true, std::memory_order_release);  // pairs with `on_scheduler_entry`
    observe(true);
  }
  placement(const placement&) = delete;
  placement& operator=(const placement&) = delete;
  ~placement() override { observe(false); }

  void on_scheduler_entry(bool is_worker) override {
    if (is_worker && made_.load(std::memory_order_acquire)) {
      (void)sched_setaffinity(0, bytes(), set());  // refused by a new cpuset: it runs elsewhere
    }
  }

 private:
  using cpu_mask_word = unsigned long;
  [[nodiscard]] std::size_t bytes() const noexcept { return set_.size() * sizeof(cpu_mask_word); }
  [[nodiscard]] cpu_set_t* set() noexcept { return reinterpret_cast<cpu_set_t*>(set_.data()); }

  std::vector<cpu_mask_word> set_;
  std::atomic<bool> made_ = false;
};

}  // namespace

struct offloader::arena {
  explicit arena(std::span<const core_id> cores)
      : threads{static_cast<int>(cores.size()), 0}, where{threads, cores} {}

  tbb::task_arena threads;
  placement where;
  tbb::task_group work;
  std::atomic<std::uint64_t> under_way = 0;
};

offloader::offloader(std::span<const core_id> cores) {
  CHECK(!cores.empty());
  arena_ = std::make_unique<arena>(cores);
}

/// A call may be over for its task before its thread has left the reactor's inlet, hence the count.
offloader::~offloader() {
  // pairs with the release of each call's end
  for (auto left = arena_->under_way.load(std::memory_order_acquire); left != 0;
       left = arena_->under_way.load(std::memory_order_acquire)) {
    arena_->under_way.wait(left, std::memory_order_acquire);
  }
  arena_->threads.execute([this] { arena_->work.wait(); });
}

void offloader::enqueue(function f, void* context) {
  arena& here = *arena_;
  here.under_way.fetch_add(1, std::memory_order_release);
  here.threads.enqueue(here.work.defer([&here, f, context] {
    // pairs with the addition above: TBB orders them too, out of the thread sanitizer's sight
    (void)here.under_way.load(std::memory_order_acquire);
    f(context);
    here.under_way.fetch_sub(1, std::memory_order_release);  // what it did comes first
    here.under_way.notify_one();
  }));
}

void detail::come_home(reactor& home, reactor::function f, void* context) noexcept {
  while (!home.post(f, context)) {
    sched_yield();
  }
}

}  // namespace runnel
