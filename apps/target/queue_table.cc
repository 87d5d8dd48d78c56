#include "apps/target/queue_table.h"

#include <algorithm>

#include "apps/target/prp_walk.h"
#include "mempool/base/bits.h"
#include "mempool/base/check.h"

namespace runnel::target {

using nvme::status_code;

queue_table::queue_table(controller_state& state, const guest_memory& memory,
                         const queue_limits& limits, std::span<std::byte> doorbells,
                         std::size_t cores)
    : state_{state}, memory_{memory}, limits_{limits}, registers_{doorbells.data()}, cores_(cores) {
  CHECK(cores != 0);
  CHECK(limits.io_queues < queues_max);
  CHECK(doorbells.size() >=
        tail_offset(limits.io_queues) + std::size_t{2} * limits.doorbell_stride_bytes);
  for (std::uint16_t id = 0; id <= limits.io_queues; ++id) {
    submissions_[id].bind(id, state.submission_queues[id], registers_ + tail_offset(id));
    completions_[id].bind(state.completion_queues[id], registers_ + head_offset(id));
  }
  for (core_queues& core : cores_) {
    core.served.reserve(queues_max);
    core.interrupting.reserve(queues_max);
  }
}

status_code queue_table::create_admin(const queue_request& submission,
                                      const queue_request& completion) noexcept {
  open_completion(completion);
  open_submission(submission);
  find_submissions();
  find_completions();
  list_interrupting();
  return admin_served_ ? status_code::success : status_code::data_transfer_error;
}

status_code queue_table::check(const queue_request& request) const noexcept {
  if (raw(request.id) == 0 || raw(request.id) > state_.io_queues) {
    return status_code::invalid_queue_id;
  }
  if (request.entries < 2 || request.entries > limits_.entries) {
    return status_code::invalid_queue_size;
  }
  if (!request.contiguous) {
    return status_code::invalid_field;  // CAP.CQR
  }
  return is_aligned(raw(request.base), page_bytes) ? status_code::success
                                                   : status_code::prp_offset_invalid;
}

status_code queue_table::create_completion(const queue_request& request) noexcept {
  if (const status_code wrong = check(request); wrong != status_code::success) {
    return wrong;
  }
  completion_queue& queue = completions_[raw(request.id)];
  if (queue.exists()) {
    return status_code::invalid_queue_id;
  }
  if (request.interrupts && request.vector >= limits_.vectors) {
    return status_code::invalid_interrupt_vector;
  }
  open_completion(request);
  queue.find(memory_);
  if (!queue.reachable()) {
    remove_completion(request.id);
    return status_code::data_transfer_error;
  }
  list_interrupting();
  return status_code::success;
}

status_code queue_table::create_submission(const queue_request& request) noexcept {
  if (const status_code wrong = check(request); wrong != status_code::success) {
    return wrong;
  }
  submission_queue& queue = submissions_[raw(request.id)];
  const bool possible =
      request.completion_queue != 0 && request.completion_queue <= state_.io_queues;
  if (queue.exists() || !possible) {
    return status_code::invalid_queue_id;
  }
  if (!completions_[request.completion_queue].exists()) {
    return status_code::cq_invalid;
  }
  open_submission(request);
  queue.find(memory_);
  if (!queue.reachable()) {
    remove_submission(request.id);
    return status_code::data_transfer_error;
  }
  list_served();
  return status_code::success;
}

void queue_table::open_completion(const queue_request& request) noexcept {
  const std::uint16_t id = raw(request.id);
  state_.completion_queues[id] = {.base = request.base,
                                  .entries = static_cast<std::uint16_t>(request.entries),
                                  .vector = request.vector,
                                  .interrupts = static_cast<std::uint16_t>(request.interrupts)};
  completions_[id].clear_doorbell();
  completions_[id].open();
}

void queue_table::open_submission(const queue_request& request) noexcept {
  const std::uint16_t id = raw(request.id);
  state_.submission_queues[id] = {.base = request.base,
                                  .entries = static_cast<std::uint16_t>(request.entries),
                                  .completion_queue = request.completion_queue};
  stopped_[id] = false;
  submissions_[id].clear_doorbell();
  submissions_[id].open(completions_[request.completion_queue]);
}

status_code queue_table::can_remove_completion(queue_id id) const noexcept {
  if (raw(id) == 0 || raw(id) > limits_.io_queues || !completions_[raw(id)].exists()) {
    return status_code::invalid_queue_id;
  }
  for (const submission_queue_state& queue : state_.submission_queues) {
    if (queue.entries != 0 && queue.completion_queue == raw(id)) {
      return status_code::invalid_queue_deletion;
    }
  }
  return status_code::success;
}

status_code queue_table::can_remove_submission(queue_id id) const noexcept {
  const bool there = raw(id) != 0 && raw(id) <= limits_.io_queues && submissions_[raw(id)].exists();
  return there ? status_code::success : status_code::invalid_queue_id;
}

void queue_table::remove_completion(queue_id id) noexcept {
  completions_[raw(id)].lose();
  state_.completion_queues[raw(id)] = {};
  list_interrupting();
}

void queue_table::stop_submission(queue_id id) noexcept {
  stopped_[raw(id)] = true;
  list_served();
}

void queue_table::remove_submission(queue_id id) noexcept {
  CHECK(submissions_[raw(id)].in_flight() == 0);
  submissions_[raw(id)].lose();
  state_.submission_queues[raw(id)] = {};
  list_served();
}

void queue_table::remove_all() noexcept {
  for (std::uint16_t id = 0; id <= limits_.io_queues; ++id) {
    CHECK(submissions_[id].in_flight() == 0);
    submissions_[id].lose();
    completions_[id].lose();
  }
  state_.submission_queues = {};
  state_.completion_queues = {};
  state_.shadow = {};
  bind_tails();
  bind_heads();
  list_served();
  list_interrupting();
}

queue_table::shadow_pages queue_table::find_shadow() const noexcept {
  const shadow_state& shadow = state_.shadow;
  if (!shadow.in_use) {
    return {};
  }
  return {.doorbells = memory_.resolve(shadow.doorbells, page_bytes, access::read_write),
          .event_indices = memory_.resolve(shadow.event_indices, page_bytes, access::write)};
}

status_code queue_table::use_shadow(iova doorbells, iova event_indices) noexcept {
  CHECK(tail_offset(limits_.io_queues) + std::size_t{2} * limits_.doorbell_stride_bytes <=
        page_bytes);
  if (!is_aligned(raw(doorbells), page_bytes) || !is_aligned(raw(event_indices), page_bytes)) {
    return status_code::prp_offset_invalid;
  }
  const shadow_state before = state_.shadow;
  state_.shadow = {.doorbells = doorbells, .event_indices = event_indices, .in_use = true};
  const shadow_pages pages = find_shadow();
  if (!pages.found()) {
    state_.shadow = before;
    return status_code::data_transfer_error;
  }
  shadow_lost_ = false;
  for (std::uint16_t id = 1; id <= limits_.io_queues; ++id) {
    submission_queue& from = submissions_[id];
    completion_queue& to = completions_[id];
    from.tail_doorbell().move(pages.doorbells + tail_offset(id),
                              pages.event_indices + tail_offset(id));
    to.head_doorbell().move(pages.doorbells + head_offset(id),
                            pages.event_indices + head_offset(id));
    from.tail_doorbell().renew(from.state().entries, from.state().head);
    to.head_doorbell().renew(to.state().entries, to.state().head);
  }
  list_served();
  return status_code::success;
}

/// Where the tails are now. While the shadow is out of reach nothing looks at them.
void queue_table::bind_tails() noexcept {
  const shadow_pages pages = find_shadow();
  shadow_lost_ = state_.shadow.in_use && !pages.found();
  for (std::uint16_t id = 1; id <= limits_.io_queues; ++id) {
    if (pages.found()) {
      submissions_[id].tail_doorbell().bind(pages.doorbells + tail_offset(id),
                                            pages.event_indices + tail_offset(id));
    } else {
      submissions_[id].tail_doorbell().bind(registers_ + tail_offset(id));
    }
  }
}

/// The same for the heads. Interrupts are decided by them even while nothing is served: they stay
/// where they were.
void queue_table::bind_heads() noexcept {
  const shadow_pages pages = find_shadow();
  for (std::uint16_t id = 1; id <= limits_.io_queues; ++id) {
    if (pages.found()) {
      completions_[id].head_doorbell().bind(pages.doorbells + head_offset(id),
                                            pages.event_indices + head_offset(id));
    } else {
      if (state_.shadow.in_use) {
        mmio_write<std::uint32_t>(registers_ + head_offset(id), completions_[id].state().head);
      }
      completions_[id].head_doorbell().bind(registers_ + head_offset(id));
    }
  }
}

void queue_table::find_submissions() noexcept {
  bind_tails();
  for (std::uint16_t id = 0; id <= limits_.io_queues; ++id) {
    if (submissions_[id].exists()) {
      submissions_[id].find(memory_);
    }
  }
  list_served();
}

void queue_table::find_completions() noexcept {
  bind_heads();
  for (std::uint16_t id = 0; id <= limits_.io_queues; ++id) {
    if (completions_[id].exists()) {
      completions_[id].find(memory_);
    }
  }
  list_served();
}

submission_queue* queue_table::find_served(queue_id id) noexcept {
  for (const core_queues& core : cores_) {
    const auto found = std::ranges::find(core.served, raw(id), &submission_queue::id);
    if (found != core.served.end()) {
      return *found;
    }
  }
  return nullptr;
}

bool queue_table::any_io_queue() const noexcept {
  for (std::uint16_t id = 1; id <= limits_.io_queues; ++id) {
    if (submissions_[id].exists() || completions_[id].exists()) {
      return true;
    }
  }
  return false;
}

bool queue_table::servable(std::uint16_t id) const noexcept {
  const submission_queue& queue = submissions_[id];
  if (id != 0 && shadow_lost_) {
    return false;
  }
  return queue.exists() && queue.reachable() && !stopped_[id] && queue.answers().reachable() &&
         queue.answers().in_reach(memory_);
}

void queue_table::list_served() noexcept {
  admin_served_ = servable(0);
  for (core_queues& core : cores_) {
    core.served.clear();
  }
  for (std::uint16_t id = 1; id <= limits_.io_queues; ++id) {
    if (servable(id)) {
      core_of_completion(submissions_[id].state().completion_queue)
          .served.push_back(&submissions_[id]);
    }
  }
}

void queue_table::list_interrupting() noexcept {
  for (core_queues& core : cores_) {
    core.interrupting.clear();
  }
  for (std::uint16_t id = 0; id <= limits_.io_queues; ++id) {
    if (completions_[id].exists() && completions_[id].state().interrupts != 0) {
      core_of_completion(id).interrupting.push_back(&completions_[id]);
    }
  }
}

}  // namespace runnel::target
