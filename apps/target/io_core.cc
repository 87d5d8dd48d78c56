#include "apps/target/io_core.h"

#include <bit>
#include <utility>

#include "mempool/base/check.h"

namespace runnel::target {

io_core::~io_core() {
  CHECK(!path_);
}

/// Who is asked serves once more before it stands still, so that being asked over and over, which
/// whoever waits for commands does, keeps no queue from going on.
std::uint32_t io_core::poll() noexcept {
  switch (stage_.load(std::memory_order_acquire)) {  // pairs with `let_go` and `ask`
    case stage::going:
      return serve();
    case stage::asked:
      static_cast<void>(serve());
      stage_.store(stage::still, std::memory_order_release);  // pairs with `stands_still`
      return 1;
    case stage::still:
      break;
  }
  return 0;
}

std::uint32_t io_core::serve() noexcept {
  std::uint32_t work = path_->collect();
  if (fetching_) {
    work += path_->fetch();
  }
  interrupt();
  const std::uint64_t wrong = path_->counters().wrong_doorbells;
  if (wrong != wrong_told_) [[unlikely]] {
    wrong_told_ = wrong;
    wrong_doorbells_.store(wrong, std::memory_order_relaxed);
  }
  return work;
}

/// The host's descriptors belong to the other core, which does the rest.
void io_core::interrupt() noexcept {
  bool any = false;
  for (completion_queue* queue : queues_->interrupting) {
    if (queue->interrupt_due(path_->counters().wrong_doorbells)) {
      const std::uint16_t vector = queue->state().vector;
      vectors_[vector / 64].fetch_or(std::uint64_t{1} << vector % 64,
                                     std::memory_order_release);  // pairs with `take_interrupts`
      any = true;
    }
  }
  if (any) {
    interrupts_.store(true, std::memory_order_release);  // pairs with `take_interrupts`
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

void io_core::ask() noexcept {
  CHECK(path_.has_value());
  stage_.store(stage::asked, std::memory_order_release);  // pairs with `poll`: it may not have seen
                                                          // that it was let go
}

void io_core::let_go(bool fetching) noexcept {
  CHECK(stands_still() && path_.has_value());
  fetching_ = fetching;
  stage_.store(stage::going, std::memory_order_release);  // pairs with `poll`
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
