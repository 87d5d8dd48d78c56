#include "apps/target/queue_table.h"

#include "apps/target/prp_walk.h"
#include "mempool/base/bits.h"
#include "mempool/base/check.h"

namespace runnel::target {

using nvme::status_code;

queue_table::queue_table(controller_state& state, const guest_memory& memory,
                         const queue_limits& limits, std::span<std::byte> doorbells) noexcept
    : state_{state}, memory_{memory}, limits_{limits} {
  const std::size_t stride = limits.doorbell_stride_bytes;
  CHECK(limits.io_queues < queues_max);
  CHECK(doorbells.size() >= 2 * stride * (std::size_t{limits.io_queues} + 1));
  for (std::uint16_t id = 0; id <= limits.io_queues; ++id) {
    std::byte* pair = doorbells.data() + 2 * stride * id;
    submissions_[id].bind(id, state.submission_queues[id], pair);
    completions_[id].bind(state.completion_queues[id], pair + stride);
  }
  served_.reserve(queues_max);
  interrupting_.reserve(queues_max);
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
  list_served();
  list_interrupting();
}

void queue_table::find_submissions() noexcept {
  for (std::uint16_t id = 0; id <= limits_.io_queues; ++id) {
    if (submissions_[id].exists()) {
      submissions_[id].find(memory_);
    }
  }
  list_served();
}

void queue_table::find_completions() noexcept {
  for (std::uint16_t id = 0; id <= limits_.io_queues; ++id) {
    if (completions_[id].exists()) {
      completions_[id].find(memory_);
    }
  }
  list_served();
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
  return queue.exists() && queue.reachable() && !stopped_[id] && queue.answers().reachable() &&
         queue.answers().in_reach(memory_);
}

void queue_table::list_served() noexcept {
  admin_served_ = servable(0);
  served_.clear();
  for (std::uint16_t id = 1; id <= limits_.io_queues; ++id) {
    if (servable(id)) {
      served_.push_back(&submissions_[id]);
    }
  }
}

void queue_table::list_interrupting() noexcept {
  interrupting_.clear();
  for (std::uint16_t id = 0; id <= limits_.io_queues; ++id) {
    if (completions_[id].exists() && completions_[id].state().interrupts != 0) {
      interrupting_.push_back(&completions_[id]);
    }
  }
}

}  // namespace runnel::target
