#include "runtime/mailbox.h"

#include <bit>
#include <utility>

#include "mempool/base/check.h"
#include "runtime/gate.h"

namespace runnel {

mailbox::mailbox(reactor& core, gate& visitors, std::size_t index, std::size_t count)
    : core_{core},
      visitors_{visitors},
      index_{index},
      outgoing_(count),
      incoming_{std::make_unique<std::atomic<lane*>[]>(count)},
      words_{(count + 63) / 64} {
  CHECK(index < count && count <= cores_max);
  core_.add_source(
      {.poll = [](void* self) noexcept { return static_cast<mailbox*>(self)->poll(); },
       .context = this,
       .name = "mailbox",
       // Senders wake us; nobody does when there is room in a lane again.
       .arm =
           [](void* self) noexcept { return static_cast<mailbox*>(self)->waiting_count_ == 0; }});
  core_.set_mail(this);
}

mailbox::~mailbox() {
  CHECK(waiting_count_ == 0);
  core_.set_mail(nullptr);
  core_.remove_source(this);
}

mailbox::outgoing::outgoing(mailbox& sender, mailbox& receiver) noexcept
    : from{sender},
      to{receiver},
      at_end_of_turn{[](void* self) noexcept { static_cast<outgoing*>(self)->tell(); }, this} {}

/// The first use makes the lane, and shows it to the receiver before it is first told.
mailbox::outgoing& mailbox::way_to(mailbox& to) {
  CHECK(to.outgoing_.size() == outgoing_.size());  // of one engine
  std::unique_ptr<outgoing>& way = outgoing_[to.index_];
  if (way == nullptr) {
    way = std::make_unique<outgoing>(*this, to);
    to.incoming_[index_].store(&way->road, std::memory_order_relaxed);  // published by the bit
  }
  return *way;
}

bool mailbox::outgoing::push(const message& what) noexcept {
  const bool room = road.try_push(what);
  if (room) {
    from.core_.mark(at_end_of_turn);
  }
  return room;
}

/// Once per turn, since it takes a fence: a receiver that watches has seen the messages already.
void mailbox::outgoing::tell() noexcept {
  // pairs with those of `lane::look_away` and of a core that falls asleep
  std::atomic_thread_fence(std::memory_order_seq_cst);
  if (!road.watched()) {
    // pairs with the receiver's exchange: it sees the lane
    to.told_[from.index_ / 64].fetch_or(std::uint64_t{1} << from.index_ % 64,
                                        std::memory_order_seq_cst);
  }
  to.core_.wake();
}

bool mailbox::try_send(mailbox& to, const message& what) noexcept {
  outgoing& way = way_to(to);
  return way.waiting.empty() && way.push(what);
}

std::uint32_t mailbox::poll() noexcept {
  std::uint32_t found = waiting_count_ != 0 ? retry() : 0;
  for (std::size_t word = 0; word < words_; ++word) {
    if (told_[word].load(std::memory_order_relaxed) != 0) {
      watch_told(word);
    }
    for (std::uint64_t senders = watched_[word]; senders != 0; senders &= senders - 1) {
      found += receive(word * 64 + static_cast<std::size_t>(std::countr_zero(senders)));
    }
  }
  return found;
}

void mailbox::watch_told(std::size_t word) noexcept {
  // pairs with the senders' release
  const std::uint64_t told = told_[word].exchange(0, std::memory_order_acquire);
  watched_[word] |= told;
  for (std::uint64_t senders = told; senders != 0; senders &= senders - 1) {
    const std::size_t from = word * 64 + static_cast<std::size_t>(std::countr_zero(senders));
    incoming_[from].load(std::memory_order_relaxed)->watch();
  }
}

/// A bounded number: the rest next turn, after everything else had its turn.
std::uint32_t mailbox::receive(std::size_t from) noexcept {
  lane& road = *incoming_[from].load(std::memory_order_relaxed);
  std::uint32_t count = 0;
  for (; count < messages_per_turn; ++count) {
    message* const next = road.front();
    if (next == nullptr) {
      break;
    }
    next->deliver(next->payload.data());
    road.pop();
  }
  if (road.lively() && outgoing_[from] != nullptr) {
    outgoing_[from]->road.expect_push();
  }
  if (!road.worth_watching(count)) {
    watched_[from / 64] &= ~(std::uint64_t{1} << from % 64);
  }
  return count;
}

std::uint32_t mailbox::retry() noexcept {
  std::uint32_t sent = 0;
  for (const auto& way : outgoing_) {
    while (way != nullptr && !way->waiting.empty() && way->push(way->waiting.front().what_)) {
      core_.ready(*way->waiting.pop_front()->task_);
      --waiting_count_;
      ++sent;
    }
  }
  return sent;
}

bool send_wait::await_ready() const noexcept {
  return from_.try_send(to_, what_);
}

void send_wait::wait_for_room(promise_base& task) noexcept {
  task_ = &task;
  task.waits_for = "room in a lane to another core";
  from_.way_to(to_).waiting.push_back(*this);
  ++from_.waiting_count_;
}

}  // namespace runnel
