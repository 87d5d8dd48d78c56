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
  const doorbell bell = bell_at(offset).guarded_by(guard);
  if (!shadows_used) {
    return bell;
  }
  const std::uint64_t at = offset - static_cast<std::uint64_t>(reg::doorbells);
  CHECK(range_within(at, sizeof(std::uint32_t), shadows.size()));
  return bell.with({.value = reinterpret_cast<std::uint32_t*>(&shadows[at]),
                    .event_index = reinterpret_cast<const std::uint32_t*>(&event_indices[at])});
}

/// The smallest queue still takes the largest request, and one slot of a ring stays empty.
std::uint32_t controller_data::commands() const noexcept {
  return std::min(std::max(options.queue_depth, request_commands_max),
                  caps.queue_entries_max() - 1);
}

/// One slot stays empty in a full ring. A device that polls shadow doorbells renews its event index
/// twice a lap: with two slots for each command it is never passed in between.
std::uint32_t controller_data::submission_entries() const noexcept {
  return std::min((shadows_used ? 2 * commands() : commands()) + 1, caps.queue_entries_max());
}

/// Twice as many, so that the head doorbell is rung once a lap or so instead of at every poll.
std::uint32_t controller_data::completion_entries() const noexcept {
  return std::min(2 * submission_entries(), caps.queue_entries_max());
}

queue_pair_parts controller_data::parts_of(const io_queue& queue,
                                           std::uint32_t depth) const noexcept {
  const std::uint32_t stride = caps.doorbell_stride_bytes();
  const std::uint32_t id = raw(queue.id);
  const bool stores = !doorbells.empty() || shadows_used;  // else each ring is a message
  const bool wakes_us = !wakes.empty();
  const std::uint32_t lag_max = completion_entries() - commands() - 1;
  return {
      .submission = {queue.submission, io_bell_at(sq_doorbell_offset(id, stride))},
      .completion = {queue.completion, io_bell_at(cq_doorbell_offset(id, stride)), lag_max},
      .list_memory = queue.lists,
      .list_address = address_of(queue.lists.data()),
      .control = queue.control.get(),
      .prps = prps(),
      .limits = limits,
      .nsid = nsid,
      .depth = depth,
      .commands = commands(),
      .transfer_bytes_max = info.transfer_bytes_max,
      .doorbells = stores ? options.doorbells : doorbell_policy::burst,
      .shows_progress = wakes_us && stores,
      .wake_fd = wakes_us ? wakes[id - 1].get() : -1,
  };
}

prp_rules controller_data::prps() const noexcept {
  return {.block_bytes = info.block_bytes,
          .bytes_max = static_cast<std::uint32_t>(align_down(command_bytes_max, info.block_bytes))};
}

void controller_data::abandon_step() noexcept {
  registers.abandon();
  admin_id.reset();
  for (std::optional<ticket>* const each : {&irq_ticket, &reset_ticket}) {
    if (*each) {
      transport.abandon(**each);
      each->reset();
    }
  }
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
    case step_limit::transport:
      return device_limit_max;
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
