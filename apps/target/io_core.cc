#include "apps/target/io_core.h"

#include <bit>
#include <utility>

#include "mempool/base/check.h"

namespace runnel::target {

io_core::~io_core() {
  CHECK(!path_);
}

void io_core::attach(reactor& here, reactor& home) noexcept {
  here_ = &here;
  home_ = &home;
  here.add_source({.poll =
                       [](void* self) noexcept {
                         auto& core = *static_cast<io_core*>(self);
                         return core.poll(core.here_->now());
                       },
                   .context = this,
                   .name = "nvme queues",
                   .arm = [](void* self) noexcept { return static_cast<io_core*>(self)->arm(); },
                   .disarm = [](void* self) noexcept { static_cast<io_core*>(self)->disarm(); }});
  watch_.attach(here);
}

void io_core::detach() noexcept {
  if (here_ == nullptr) {
    return;
  }
  here_->remove_source(this);
  watch_.detach();
  here_ = home_ = nullptr;
}

/// Who is asked serves once more before it stands still, so that being asked over and over, which
/// whoever waits for commands does, keeps no queue from going on.
std::uint32_t io_core::poll(instant now) noexcept {
  switch (stage_.load(std::memory_order_acquire)) {  // pairs with `let_go` and `ask`
    case stage::going:
      return serve(now);
    case stage::asked:
      static_cast<void>(serve(now));
      keep_quiet();
      stage_.store(stage::still, std::memory_order_release);  // pairs with `stands_still`
      return 1;
    case stage::still:
      break;
  }
  return 0;
}

bool io_core::arm() noexcept {
  switch (stage_.load(std::memory_order_acquire)) {  // pairs with `let_go`
    case stage::going:
      is_armed_ = tells_of_doorbells_ && !queues_->interrupts_open() && path_->arm();
      return is_armed_ && watch_.arm();
    case stage::asked:
      return false;
    case stage::still:
      break;
  }
  return true;
}

void io_core::disarm() noexcept {
  watch_.disarm();
  keep_quiet();
}

/// Not any more once it stands still: then its queues are the other core's.
void io_core::keep_quiet() noexcept {
  if (std::exchange(is_armed_, false)) {
    path_->disarm();
  }
}

std::uint32_t io_core::serve(instant now) noexcept {
  std::uint32_t work = path_->collect();
  if (fetching_) {
    work += path_->fetch();
  }
  interrupt(now);
  const std::uint64_t wrong = path_->counters().wrong_doorbells;
  if (wrong != wrong_told_) [[unlikely]] {
    wrong_told_ = wrong;
    wrong_doorbells_.store(wrong, std::memory_order_seq_cst);
    wake_home();
  }
  return work;
}

/// What was stored before is seen by its last look before a sleep, or it is woken: the store is of
/// the same order as what `reactor::wake` looks at.
void io_core::wake_home() noexcept {
  if (home_ != nullptr) {
    home_->wake();
  }
}

/// The host's descriptors belong to the other core, which does the rest.
void io_core::interrupt(instant now) noexcept {
  bool any = false;
  for (completion_queue* queue : queues_->interrupting) {
    if (queue->interrupt_due(now, path_->counters().wrong_doorbells)) {
      const std::uint16_t vector = queue->state().vector;
      vectors_[vector / 64].fetch_or(std::uint64_t{1} << vector % 64,
                                     std::memory_order_release);  // pairs with `take_interrupts`
      any = true;
    }
  }
  if (any) {
    interrupts_.store(true, std::memory_order_seq_cst);  // pairs with `take_interrupts`
    wake_home();
  }
}

bool io_core::take_interrupts(interrupt_sink& to) noexcept {
  if (!interrupts_.load(std::memory_order_relaxed)) [[likely]] {
    return false;
  }
  interrupts_.exchange(false, std::memory_order_acquire);  // pairs with `interrupt`
  for (std::size_t word = 0; word < vectors_.size(); ++word) {
    // pairs with `interrupt`, which may not yet have said that there is any
    std::uint64_t due = vectors_[word].exchange(0, std::memory_order_acquire);
    for (; due != 0; due &= due - 1) {
      to.raise(
          static_cast<std::uint16_t>(word * 64 + static_cast<unsigned>(std::countr_zero(due))));
    }
  }
  return true;
}

void io_core::wake() noexcept {
  // pairs with the fence of a reactor that falls asleep: it sees what was stored before, or we see
  // that it sleeps
  std::atomic_thread_fence(std::memory_order_seq_cst);
  if (here_ != nullptr) {
    here_->wake();
  }
}

void io_core::go(stage to) noexcept {
  stage_.store(to, std::memory_order_release);  // pairs with `poll`
  wake();
}

/// It may not have seen yet that it was let go.
void io_core::ask() noexcept {
  CHECK(path_.has_value());
  go(stage::asked);
}

void io_core::let_go(bool fetching) noexcept {
  CHECK(stands_still() && path_.has_value());
  fetching_ = fetching;
  go(stage::going);
}

void io_core::move_in(io_parts parts, const io_limits& limits) {
  CHECK(stands_still() && !path_);
  parts.paths = paths_;
  parts.errors = &errors_;
  path_.emplace(parts, limits);
  queues_ = &parts.queues->of_core(parts.core);
}

void io_core::move_out() noexcept {
  CHECK(stands_still() && path_->quiet());
  former_ += path_->counters();
  path_.reset();
  queues_ = nullptr;
  errors_ = {};
  wrong_told_ = 0;
  wrong_doorbells_.store(0, std::memory_order_relaxed);
  interrupts_.store(false, std::memory_order_relaxed);
  for (auto& word : vectors_) {
    word.store(0, std::memory_order_relaxed);
  }
}

io_counters io_core::counters() const noexcept {
  io_counters sum = former_;
  if (path_) {
    sum += path_->counters();
  }
  return sum;
}

}  // namespace runnel::target
