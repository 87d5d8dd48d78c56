#include "runtime/io/block.h"

#include <array>
#include <bit>

#include "mempool/base/check.h"

namespace runnel::io {
namespace {

/// Whole periods that are never shorter than the deadline, whenever in a period a request starts.
std::uint32_t ticks_of(nanoseconds deadline) noexcept {
  return static_cast<std::uint32_t>(deadline / disk::deadline_period) + 2;
}

}  // namespace

borrowed_io::borrowed_io(disk& owner, block_op op, lba first, std::span<const segment> data,
                         durability wanted) noexcept
    : block_wait{owner, op, first, wanted} {
  std::size_t bytes = 0;
  for (const segment& each : data) {
    bytes += each.length;
  }
  request_.segments = data.data();
  request_.segment_count = static_cast<std::uint32_t>(data.size());
  request_.blocks = owner.blocks_in(bytes);
}

/// The request is done; only this turn's budget is not left. A cancelled task learns it here, else
/// a loop on a device that always finishes in place never would.
void block_wait::go_on_next_turn() noexcept {
  if (is_cancelled(*task_)) {
    ended_early_ = errc::cancelled;
  }
  disk_.core_.ready_next_turn(*task_);
}

disk::disk(reactor& core, std::unique_ptr<block_queue> queue, const block_info& info,
           const disk_options& options)
    : core_{core},
      polled_{queue.get()},
      slots_(queue->depth()),
      ticks_per_request_{ticks_of(options.deadline)},
      block_shift_{static_cast<unsigned>(std::countr_zero(info.block_bytes))},
      publisher_{[](void* self) noexcept { static_cast<disk*>(self)->publish(); }, this},
      cancellable_{[](void* self, const gate& owner) noexcept {
                     static_cast<disk*>(self)->cancel_waits(owner);
                   },
                   this},
      deadlines_{*this},
      info_{info},
      depth_{queue->depth()},
      orphans_(queue->depth()),
      queue_{std::move(queue)},
      wake_{*queue_} {
  for (std::uint32_t index = depth_; index-- != 0;) {
    slots_[index].next_free = std::exchange(free_, index);
  }
}

disk::~disk() {
  CHECK(!deadlines_.armed());
  CHECK(in_flight_ == orphan_count_ && refused_.empty());
}

void disk::attach() noexcept {
  core_.add_source(
      {.poll = [](void* which) noexcept { return static_cast<disk*>(which)->poll(); },
       .context = this,
       .name = info_.address.c_str(),
       .arm =
           [](void* which) noexcept {
             auto& self = *static_cast<disk*>(which);
             return self.refused_.empty() && self.wake_.arm();
           },
       .disarm = [](void* which) noexcept { static_cast<disk*>(which)->wake_.disarm(); },
       .kernel_brings = info_.kernel_brings});
  wake_.attach(core_);
  core_.add_cancellable(cancellable_);
  core_.set_timer(deadlines_, core_.now() + deadline_period);
}

void disk::detach() noexcept {
  CHECK(in_flight_ == orphan_count_ && refused_.empty());
  core_.remove_source(this);
  wake_.detach();
  core_.remove_cancellable(cancellable_);
  core_.cancel_timer(deadlines_);
  publisher_.publish = [](void*) noexcept {};  // it may be marked in this very turn
  queue_.reset();
}

std::uint32_t disk::poll() noexcept {
  if (in_flight_ == 0 && refused_.empty()) {
    return 0;
  }
  return poll_queue();
}

inline std::uint32_t disk::poll_queue() noexcept {
  const std::size_t count = polled_->poll(done_);
  for (std::size_t index = 0; index < count; ++index) {
    complete(done_[index]);
  }
  auto found = static_cast<std::uint32_t>(count);
  if (!refused_.empty()) [[unlikely]] {
    found += retry_refused();
  }
  return found;
}

/// A request that need not share its way to the device. @return whether the task waits
bool disk::start_alone(block_wait& wait) noexcept {
  if (!submit(wait)) [[unlikely]] {
    let_wait_for_room(wait);
    return true;
  }
  if (wait.request_.state == block_state::pending) {
    core_.mark(publisher_);
    return true;
  }
  if (core_.may_continue()) [[likely]] {
    return false;
  }
  wait.go_on_next_turn();
  return true;
}

/// @return false: refused
bool disk::submit(block_wait& wait) noexcept {
  const std::uint32_t index = take_slot(wait);
  wait.request_.tag = index;
  polled_->submit(std::span{&wait.request_, 1});
  if (wait.request_.state != block_state::pending) {
    free_slot(index);
  }
  return wait.request_.state != block_state::refused;
}

/// One call for all that have gathered.
void disk::submit_burst() noexcept {
  const std::span requests = std::span{burst_}.first(std::exchange(gathered_, 0));
  polled_->submit(requests);
  for (const block_request& each : requests) {
    if (each.state == block_state::pending) [[likely]] {
      continue;
    }
    const auto index = static_cast<std::uint32_t>(each.tag);
    block_wait& wait = *slots_[index].wait;
    free_slot(index);
    if (each.state == block_state::refused) {
      let_wait_for_room(wait);
    } else {
      wait.request_.status = each.status;
      core_.ready(*wait.task_);
    }
  }
}

void disk::let_wait_for_room(block_wait& wait) noexcept {
  wait.expires_ = tick_ + ticks_per_request_;
  refused_.push_back(wait);
}

void disk::publish() noexcept {
  if (gathered_ != 0) {
    submit_burst();
  }
  polled_->flush();
}

void disk::complete(const block_completion& done) noexcept {
  const auto index = static_cast<std::uint32_t>(done.tag);
  CHECK(index < slots_.size());  // tags are ours: drivers validate what the device wrote
  block_wait* const wait = slots_[index].wait;
  free_slot(index);
  if (wait == nullptr) [[unlikely]] {
    complete_orphan(index);
    return;
  }
  wait->request_.status = done.status;
  core_.ready(*wait->task_);
}

void disk::complete_orphan(std::uint32_t index) noexcept {
  --orphan_count_;
  orphans_[index] = buffer{};  // the device is done with it: it may go home
}

/// @return requests that found room
std::uint32_t disk::retry_refused() noexcept {
  std::uint32_t moved = 0;
  while (!refused_.empty() && free_ != no_slot) {
    block_wait& first = refused_.front();
    if (!submit(first)) {
      break;
    }
    (void)refused_.pop_front();
    if (first.request_.state == block_state::done) {
      core_.ready(*first.task_);
    } else {
      core_.mark(publisher_);
    }
    ++moved;
  }
  return moved;
}

/// Ends the wait, not the request: its slot, and memory it owned, stay until the device is done.
void disk::abandon(slot& which, errc why) noexcept {
  block_wait& wait = *std::exchange(which.wait, nullptr);
  if (wait.owned_ != nullptr) {
    orphans_[static_cast<std::size_t>(&which - slots_.data())] = std::move(*wait.owned_);
  }
  ++orphan_count_;
  wait.ended_early_ = why;
  core_.ready(*wait.task_);
}

void disk::end_refused(block_wait& wait, errc why) noexcept {
  wait.unlink();
  wait.ended_early_ = why;
  core_.ready(*wait.task_);
}

void disk::apply_deadlines() noexcept {
  ++tick_;
  for (slot& each : slots_) {
    if (each.wait != nullptr && each.expires <= tick_) {
      abandon(each, errc::timed_out);
    }
  }
  refused_.for_each([this](block_wait& wait) {
    if (wait.expires_ <= tick_) {
      end_refused(wait, errc::timed_out);
    }
  });
}

void disk::cancel_waits(const gate& owner) noexcept {
  for (slot& each : slots_) {
    if (each.wait != nullptr && each.wait->task_->owner == &owner) {
      abandon(each, errc::cancelled);
    }
  }
  refused_.for_each([this, &owner](block_wait& wait) {
    if (wait.task_->owner == &owner) {
      end_refused(wait, errc::cancelled);
    }
  });
}

void disk::deadline_timer::on_deadline(timer& self) noexcept {
  disk& owner = static_cast<deadline_timer&>(self).owner;
  owner.apply_deadlines();
  if (owner.in_flight_ == 0) {
    static_cast<void>(owner.poll_queue());  // the device may wait for it to see a reset
  }
  owner.core_.set_timer(self, owner.core_.now() + deadline_period);
}

}  // namespace runnel::io
