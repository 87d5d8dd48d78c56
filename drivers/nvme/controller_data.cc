#include "drivers/nvme/controller_data.h"

#include <algorithm>

#include "drivers/nvme/steps.h"
#include "mempool/base/bits.h"
#include "mempool/base/check.h"
#include "mempool/base/checked.h"

namespace runnel::nvme {

doorbell controller_data::bell_at(std::uint64_t offset) const noexcept {
  if (doorbells.empty()) {
    return doorbell{transport, offset};
  }
  const std::uint64_t at = offset - static_cast<std::uint64_t>(reg::doorbells);
  CHECK(range_within(at, sizeof(std::uint32_t), doorbells.size()));
  return doorbell{&doorbells[at]};
}

doorbell controller_data::io_bell_at(std::uint64_t offset) const noexcept {
  if (!shadows_used) {
    return bell_at(offset);
  }
  const std::uint64_t at = offset - static_cast<std::uint64_t>(reg::doorbells);
  CHECK(range_within(at, sizeof(std::uint32_t), shadows.size()));
  return bell_at(offset).with(
      {.value = reinterpret_cast<std::uint32_t*>(&shadows[at]),
       .event_index = reinterpret_cast<const std::uint32_t*>(&event_indices[at])});
}

/// One slot stays empty in a full ring; the smallest queue still takes the largest request.
std::uint32_t controller_data::submission_entries() const noexcept {
  return std::min(std::max(options.queue_depth, request_commands_max) + 1,
                  caps.queue_entries_max());
}

/// Twice as many, so that the head doorbell is rung once a lap or so instead of at every poll.
std::uint32_t controller_data::completion_entries() const noexcept {
  return std::min(2 * submission_entries(), caps.queue_entries_max());
}

queue_pair_parts controller_data::parts_of(const io_queue& queue,
                                           std::uint32_t depth) const noexcept {
  const std::uint32_t stride = caps.doorbell_stride_bytes();
  const std::uint32_t id = raw(queue.id);
  const bool mapped = !doorbells.empty();
  return {
      .submission = {queue.submission, io_bell_at(sq_doorbell_offset(id, stride))},
      .completion = {queue.completion, io_bell_at(cq_doorbell_offset(id, stride)),
                     completion_entries() - submission_entries()},
      .list_memory = queue.lists,
      .list_address = address_of(queue.lists.data()),
      .control = queue.control.get(),
      .prps = prps(),
      .limits = limits,
      .nsid = nsid,
      .depth = depth,
      .commands = submission_entries() - 1,
      .transfer_bytes_max = info.transfer_bytes_max,
      .doorbells = mapped ? options.doorbells : doorbell_policy::burst,  // a message each
  };
}

prp_rules controller_data::prps() const noexcept {
  return {.block_bytes = info.block_bytes,
          .bytes_max = static_cast<std::uint32_t>(align_down(command_bytes_max, info.block_bytes))};
}

void controller_data::set_queues(queue_state state) noexcept {
  for (io_queue& queue : queues) {
    if (state >= queue_state::stopped) {
      queue.control->rewound.store(false, std::memory_order_relaxed);
    }
    // pairs with the queue's acquire at its next call
    queue.control->state.store(state, std::memory_order_release);
  }
}

io_queue* controller_data::find_late_queue() noexcept {
  for (io_queue& queue : queues) {
    // pairs with the queue's releases: it is done with the command
    const std::uint32_t late = queue.control->overdue.load(std::memory_order_acquire);
    if ((late & queue_control::ended) != 0) {                      // by itself
      queue.control->overdue.store(0, std::memory_order_release);  // pairs with its acquire
    } else if (late != 0 && queue.control->attached.load(std::memory_order_relaxed)) {
      return &queue;
    }
  }
  return nullptr;
}

void controller_data::tick() noexcept {
  for (io_queue& queue : queues) {
    queue.control->ticks.fetch_add(1, std::memory_order_relaxed);
  }
}

nanoseconds limit_of(const step& which, const controller_data& data) noexcept {
  switch (which.limit) {
    case step_limit::answer:
      break;
    case step_limit::admin:
      return data.options.admin_limit;
    case step_limit::question:
      return data.question.limit;
    case step_limit::ready:
      return std::min<nanoseconds>(std::chrono::milliseconds{data.ready_timeout_ms},
                                   device_limit_max) +
             data.status_delay();
    case step_limit::shutdown:
      return std::max(
          data.options.answer_limit,
          std::min<nanoseconds>(std::chrono::microseconds{data.controller_identity.rtd3e},
                                device_limit_max));
  }
  return data.options.answer_limit;
}

}  // namespace runnel::nvme
