#include "apps/target/io_queue.h"

namespace runnel::target {

std::byte* completion_queue::look(const guest_memory& memory) const noexcept {
  const std::uint64_t bytes = std::uint64_t{state_->entries} * sizeof(nvme::completion_entry);
  return memory.resolve(state_->base, bytes, access::write);
}

bool completion_queue::interrupt_due(std::uint64_t& wrong) noexcept {
  if (untold_ == 0) {
    return false;
  }
  state_->head = head_doorbell_.read(state_->entries, state_->head, wrong);
  const std::uint16_t head = state_->head;
  if (head == state_->tail) {
    untold_ = 0;  // it has read everything without being told
    told_ = head;
    return false;
  }
  if (head != told_ && head != seen_) {
    seen_ = head;
    return false;
  }
  untold_ = 0;
  told_ = state_->tail;
  seen_ = head;
  return true;
}

bool completion_queue::unread(std::uint64_t& wrong) noexcept {
  state_->head = head_doorbell_.read(state_->entries, state_->head, wrong);
  return state_->head != state_->tail;
}

void submission_queue::find(const guest_memory& memory) noexcept {
  const std::uint64_t bytes = std::uint64_t{state_->entries} * sizeof(nvme::submission_entry);
  entries_ = memory.resolve(state_->base, bytes, access::read);
}

}  // namespace runnel::target
