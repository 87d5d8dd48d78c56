#include "apps/target/admin.h"

#include <algorithm>
#include <array>

#include "apps/target/error_log.h"
#include "apps/target/logs.h"
#include "apps/target/prp_walk.h"
#include "drivers/nvme/spec_logs.h"

namespace runnel::target {

using nvme::status_code;

namespace {

bool is_blank(const nvme::submission_entry& entry) noexcept {
  return std::ranges::all_of(std::as_bytes(std::span{&entry, 1}),
                             [](std::byte each) { return each == std::byte{0}; });
}

}  // namespace

admin_queue::admin_queue(controller_state& state, queue_table& queues, io_crew& crew,
                         const subsystem& system, const guest_memory& memory,
                         const admin_options& options)
    : state_{state},
      queues_{queues},
      crew_{crew},
      system_{system},
      memory_{memory},
      options_{options},
      events_{state.events},
      segments_(segments_for(system.transfer_bytes_max)) {}

void admin_queue::reset() noexcept {
  deletion_.reset();
}

void admin_queue::report(nvme::error_event what) noexcept {
  events_.report(nvme::event_type::error, static_cast<std::uint8_t>(what));
}

void admin_queue::namespace_changed(std::uint32_t nsid) noexcept {
  note_changed_namespace(state_.changed, nsid);
  if ((events_wanted(state_.features) & nvme::events_namespaces) != 0) {
    events_.report(nvme::event_type::notice,
                   static_cast<std::uint8_t>(nvme::notice_event::namespaces_changed));
  }
}

bool admin_queue::due() noexcept {
  if (!queues_.admin_served()) {
    return false;  // out of reach for now
  }
  if (!command_waits() && !deletion_ && !events_.due()) [[likely]] {
    return false;
  }
  return queues_.admin().answers().room(1, wrong_doorbells()) != 0;  // the host reads its answers
}

std::uint32_t admin_queue::serve() noexcept {
  if (tell_event() || finish_deletion()) {
    return 1;
  }
  if (command_waits()) {
    take_command();
    return 1;
  }
  return 0;
}

bool admin_queue::tell_event() noexcept {
  if (!events_.due()) {
    return false;
  }
  const event_board::notification told = events_.take();
  queues_.admin().answer(told.command_id, status_code::success, told.answer);
  return true;
}

bool admin_queue::finish_deletion() noexcept {
  if (!deletion_ || queues_.submission(raw(deletion_->queue)).in_flight() != 0) {
    return false;
  }
  queues_.remove_submission(deletion_->queue);
  queues_.admin().answer(deletion_->command_id, status_code::success);
  deletion_.reset();
  return true;
}

void admin_queue::take_command() noexcept {
  submission_queue& queue = queues_.admin();
  std::array<command, 1> order{};
  queue.copy(order);
  if (is_blank(order[0]) && queue.answers().is_new()) {
    // No host begins by deleting a queue that cannot be: this is memory that nobody has written.
    state_.memory_unshared = true;
    state_.registers.status |= nvme::csts_fatal;
    return;
  }
  queue.advance();
  const std::uint16_t id = order[0].command_id;
  if (const std::optional<answer> now = execute(order[0])) {
    if (now->status == status_code::success) {
      queue.answer(id, now->status, now->result);
    } else {
      queue.refuse(id, now->status);
      note_error(state_.errors,
                 {.queue = 0, .command_id = id, .status = now->status, .nsid = order[0].nsid});
    }
  }
}

std::optional<admin_queue::answer> admin_queue::execute(const command& order) noexcept {
  if (order.flags != 0) {
    return answer{status_code::invalid_field};
  }
  switch (static_cast<nvme::admin_opcode>(order.opcode)) {
    case nvme::admin_opcode::delete_io_sq:
      return delete_submission(order);
    case nvme::admin_opcode::create_io_sq:
      return create_submission(order);
    case nvme::admin_opcode::get_log_page:
      return get_log_page(order);
    case nvme::admin_opcode::delete_io_cq:
      return delete_completion(order);
    case nvme::admin_opcode::create_io_cq:
      return create_completion(order);
    case nvme::admin_opcode::identify:
      return identify(order);
    case nvme::admin_opcode::abort:
      return abort(order);
    case nvme::admin_opcode::set_features:
      return set_feature(order);
    case nvme::admin_opcode::get_features:
      return get_feature(order);
    case nvme::admin_opcode::async_event_request:
      return hold_event_request(order);
    case nvme::admin_opcode::doorbell_buffer_config:
      if (options_.shadow_doorbells) {
        return answer{queues_.use_shadow(iova{order.prp1}, iova{order.prp2})};
      }
      return answer{status_code::invalid_opcode};
    default:
      return answer{status_code::invalid_opcode};
  }
}

std::optional<admin_queue::answer> admin_queue::hold_event_request(const command& order) noexcept {
  if (!events_.hold(order.command_id)) {
    return answer{status_code::aer_limit_exceeded};
  }
  return std::nullopt;
}

/// Ends event requests, and commands that wait in their queue; what a device has is left to it.
/// Answered at once, so there is never more than one under way. @spec NVMe Base 2.0 §5.1
admin_queue::answer admin_queue::abort(const command& order) noexcept {
  const auto queue_number = static_cast<std::uint16_t>(order.cdw10);
  const auto id = static_cast<std::uint16_t>(order.cdw10 >> 16U);
  std::uint64_t& wrong = wrong_doorbells();
  bool aborted = false;
  if (queue_number == 0) {
    submission_queue& queue = queues_.admin();
    aborted = queue.answers().room(2, wrong) >= 2 && events_.drop(id);
    if (aborted) {
      queue.answer(id, status_code::abort_requested);
    }
  } else if (submission_queue* const queue = queues_.find_served(queue_id{queue_number})) {
    aborted = queue->abort_waiting(id, wrong);
  }
  return {.result = aborted ? 0 : nvme::abort_not_done};
}

std::optional<admin_queue::answer> admin_queue::delete_submission(const command& order) noexcept {
  const queue_id id{static_cast<std::uint16_t>(order.cdw10)};
  if (const status_code wrong = queues_.can_remove_submission(id); wrong != status_code::success) {
    return answer{wrong};
  }
  queues_.stop_submission(id);
  deletion_ = deletion{order.command_id, id};
  return std::nullopt;
}

admin_queue::answer admin_queue::delete_completion(const command& order) noexcept {
  const queue_id id{static_cast<std::uint16_t>(order.cdw10)};
  const status_code status = queues_.can_remove_completion(id);
  if (status == status_code::success) {
    queues_.remove_completion(id);
  }
  return {status};
}

admin_queue::answer admin_queue::create_completion(const command& order) noexcept {
  const nvme::configuration cc{state_.registers.configuration};
  if (cc.cq_entry_bytes() != sizeof(nvme::completion_entry)) {
    return {status_code::invalid_queue_size};
  }
  return {
      queues_.create_completion({.id = queue_id{static_cast<std::uint16_t>(order.cdw10)},
                                 .base = iova{order.prp1},
                                 .entries = (order.cdw10 >> 16U) + 1,
                                 .contiguous = (order.cdw11 & nvme::create_queue_contiguous) != 0,
                                 .interrupts = (order.cdw11 & nvme::create_cq_interrupts) != 0,
                                 .vector = static_cast<std::uint16_t>(order.cdw11 >> 16U)})};
}

admin_queue::answer admin_queue::create_submission(const command& order) noexcept {
  const nvme::configuration cc{state_.registers.configuration};
  if (cc.sq_entry_bytes() != sizeof(nvme::submission_entry)) {
    return {status_code::invalid_queue_size};
  }
  return {queues_.create_submission(
      {.id = queue_id{static_cast<std::uint16_t>(order.cdw10)},
       .base = iova{order.prp1},
       .entries = (order.cdw10 >> 16U) + 1,
       .contiguous = (order.cdw11 & nvme::create_queue_contiguous) != 0,
       .completion_queue = static_cast<std::uint16_t>(order.cdw11 >> 16U)})};
}

}  // namespace runnel::target
