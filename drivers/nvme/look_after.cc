#include <array>
#include <cstring>

#include "drivers/nvme/step_actions.h"
#include "drivers/nvme/steps.h"

// What is done with a controller that runs: see whether it is well, help what is late, ask it.
namespace runnel::nvme {
namespace {

result<> learn_health(controller_data& data, std::uint64_t status) noexcept {
  if ((status & csts_fatal) != 0) {
    data.hint = "the controller reports a fatal error (CSTS.CFS)";
    return fail(errc::bad_status, static_cast<std::uint32_t>(status));
  }
  if ((status & csts_ready) == 0) {
    data.hint = "somebody else has disabled the controller";
    return fail(errc::bad_status, static_cast<std::uint32_t>(status));
  }
  return {};
}

constexpr std::array watch_table{
    step{"watch", step_limit::answer, start_read<reg::csts>, after_access<learn_health>},
    step{"ask for events", step_limit::answer, request_events, done_at_once},
};

/// One command at a time, so no limit of aborts (ACL) is ever reached.
result<> abort_late_command(controller_data& data) noexcept {
  data.late_queue = data.find_late_queue();
  if (data.late_queue == nullptr) {
    return {};  // it has just ended
  }
  const std::uint32_t late = data.late_queue->control->overdue.load(std::memory_order_relaxed);
  const command_id which{static_cast<std::uint16_t>((late & ~queue_control::ended) - 1)};
  const auto sent = start_admin(data, abort_command(data.late_queue->id, which));
  if (sent) {
    ++data.events.aborts;
  }
  return sent;
}

/// What the device says of the abort does not matter, only that it says so and that the command
/// ends: one that it does not find may have ended just before.
result<bool> until_late_command_ended(controller_data& data, instant) noexcept {
  if (data.late_queue == nullptr) {
    return true;
  }
  if (data.admin_id && !take_admin(data)) {
    return false;
  }
  data.hint = "an I/O command over its time did not end when it was aborted";
  queue_control& control = *data.late_queue->control;
  // pairs with the queue's releases
  const std::uint32_t late = control.overdue.load(std::memory_order_acquire);
  if ((late & queue_control::ended) == 0) {
    return !control.attached.load(std::memory_order_acquire);
  }
  control.overdue.store(0, std::memory_order_release);  // pairs with the queue's acquire
  return true;
}

constexpr std::array abort_table{
    step{"abort a command", step_limit::answer, abort_late_command, until_late_command_ended},
};

result<> ask(controller_data& data) noexcept {
  submission_entry command = data.question.command;
  command.prp1 = raw(data.address_of(data.admin_data.data()));
  return start_admin(data, command);
}

/// What the controller refuses is the asker's concern, not a controller that failed.
result<bool> until_answered(controller_data& data, instant) noexcept {
  const auto reply = take_admin(data);
  if (!reply) {
    return false;
  }
  data.answer = *reply;
  std::memcpy(data.answer_data.data(), data.admin_data.data(), data.question.data_bytes);
  if (data.question.command.opcode == static_cast<std::uint8_t>(admin_opcode::format_nvm)) {
    data.rescan_wanted = true;
  }
  return true;
}

constexpr std::array question_table{
    step{"ask", step_limit::question, ask, until_answered},
};

}  // namespace

std::span<const step> watch_steps() noexcept {
  return watch_table;
}
std::span<const step> abort_steps() noexcept {
  return abort_table;
}
std::span<const step> question_steps() noexcept {
  return question_table;
}

}  // namespace runnel::nvme
