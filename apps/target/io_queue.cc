#include "apps/target/io_queue.h"

#include <utility>

namespace runnel::target {

std::byte* completion_queue::look(const guest_memory& memory) const noexcept {
  const std::uint64_t bytes = std::uint64_t{state_->entries} * sizeof(nvme::completion_entry);
  return memory.resolve(state_->base, bytes, access::write);
}

bool completion_queue::interrupt_due(instant now, std::uint64_t& wrong) noexcept {
  if (untold_ == 0) {
    return false;
  }
  if (until_trial_ == 0) {  // reading the head takes the line that it is in from the host
    next_look_ = next_look_ == instant{} ? now + patience : next_look_;
    if (now < next_look_) {
      return false;
    }
  }
  next_look_ = {};
  read_head(wrong);
  const std::uint16_t head = state_->head;
  if (head == state_->tail) {  // it has read everything without being told
    untold_ = 0;
    seen_ = head;
    trial_period_ = 1;
    return false;
  }
  if (std::exchange(seen_, head) != head) {
    return false;  // it is reading
  }
  if (until_trial_-- == 0) {  // it has not read by itself
    until_trial_ = trial_period_;
    trial_period_ = std::min(2 * trial_period_, trial_period_max);
  }
  untold_ = 0;
  seen_ = state_->tail;  // where it would stop reading
  return true;
}

bool completion_queue::unread(std::uint64_t& wrong) noexcept {
  read_head(wrong);
  return state_->head != state_->tail;
}

void submission_queue::find(const guest_memory& memory) noexcept {
  const std::uint64_t bytes = std::uint64_t{state_->entries} * sizeof(nvme::submission_entry);
  entries_ = memory.resolve(state_->base, bytes, access::read);
}

bool submission_queue::is_aborted(std::uint16_t slot) const noexcept {
  return std::ranges::any_of(std::span{state_->aborted}.first(state_->aborted_count),
                             [=](std::uint16_t each) { return each == slot; });
}

bool submission_queue::copy_second(nvme::submission_entry& out, std::uint64_t& wrong) noexcept {
  const std::uint16_t tail = tail_doorbell_.read(state_->entries, state_->head, wrong);
  dma_rmb();  // pairs with the host writing the doorbell after the entries
  const std::uint16_t slot = slot_at(1);
  if (distance(tail) < 2 || is_aborted(slot)) {
    return false;
  }
  copy_slot(out, slot);
  return true;
}

bool submission_queue::abort_waiting(std::uint16_t command_id, std::uint64_t& wrong) noexcept {
  const std::uint16_t tail = tail_doorbell_.read(state_->entries, state_->head, wrong);
  dma_rmb();  // pairs with the host writing the doorbell after the entries
  if (state_->aborted_count == aborted_entries_max) {
    return false;
  }
  for (std::uint32_t i = 0; i < distance(tail); ++i) {
    const std::uint16_t slot = slot_at(i);
    nvme::submission_entry entry;
    copy_slot(entry, slot);
    if (entry.command_id != command_id || is_aborted(slot)) {
      continue;
    }
    const bool fused = (entry.flags & nvme::submission_flags_fused) != 0;
    if (fused || answers_->room(1, wrong) == 0) {
      return false;
    }
    state_->aborted[state_->aborted_count++] = slot;
    answer(command_id, nvme::status_code::abort_requested);
    return true;
  }
  return false;
}

std::uint32_t submission_queue::before_aborted(std::uint32_t count) noexcept {
  const std::span aborted = std::span{state_->aborted}.first(state_->aborted_count);
  for (std::uint16_t& slot : aborted) {
    if (slot == state_->head) {
      slot = aborted.back();
      --state_->aborted_count;
      advance();
      return 0;
    }
    count = std::min(count, distance(slot));
  }
  return count;
}

}  // namespace runnel::target
