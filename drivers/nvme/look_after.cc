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

result<> ask_log(controller_data& data) noexcept {
  return start_admin(data, get_log_command(data.log_page_wanted, data.log_bytes,
                                           data.address_of(data.admin_data.data())));
}

/// A log that the controller does not have is the asker's concern, not a controller that failed.
result<bool> until_log_read(controller_data& data, instant) noexcept {
  const auto reply = take_admin(data);
  if (!reply) {
    return false;
  }
  data.log_status = reply->status;
  std::memcpy(data.log.data(), data.admin_data.data(), data.log_bytes);
  return true;
}

constexpr std::array log_table{
    step{"read log page", step_limit::admin, ask_log, until_log_read},
};

}  // namespace

std::span<const step> watch_steps() noexcept {
  return watch_table;
}
std::span<const step> abort_steps() noexcept {
  return abort_table;
}
std::span<const step> log_steps() noexcept {
  return log_table;
}

}  // namespace runnel::nvme
