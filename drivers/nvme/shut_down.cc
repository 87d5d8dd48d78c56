#include <array>

#include "drivers/nvme/step_actions.h"
#include "drivers/nvme/steps.h"

// From a controller that runs, or has failed, to one that is off.
namespace runnel::nvme {

result<> start_disable(controller_data& data) noexcept {
  data.set_queues(queue_state::paused);
  if ((data.configuration & cc_enable) == 0) {
    return {};
  }
  return data.registers.write(reg::cc, data.configuration & ~(cc_enable | cc_shutdown_mask));
}

result<bool> until_disabled(controller_data& data, instant now) noexcept {
  // A fatal error does not matter here: disabling is how it is cleared.
  const auto done = until_status<csts_ready, 0, false>(data, now);
  data.device_quiet = data.device_quiet || (done && *done);
  return done;
}

namespace {

/// The command that deletes ring number `queue_step`: submission and completion queue in turn.
result<> delete_next_ring(controller_data& data) noexcept {
  const queue_id id = data.queues[data.queue_step / 2].id;
  return start_admin(data,
                     data.queue_step % 2 == 0 ? delete_sq_command(id) : delete_cq_command(id));
}

result<> delete_queues(controller_data& data) noexcept {
  data.set_queues(queue_state::paused);
  data.queue_step = 0;
  return delete_next_ring(data);
}

/// A queue that the controller will not delete goes when it is disabled, so its status is nothing.
result<bool> until_queues_deleted(controller_data& data, instant) noexcept {
  if (!take_admin(data)) {
    return false;
  }
  if (++data.queue_step == 2 * data.queues.size()) {
    return true;
  }
  const auto started = delete_next_ring(data);
  return started ? result<bool>{false} : std::unexpected{started.error()};
}

result<> announce_shutdown(controller_data& data) noexcept {
  data.configuration = enabled_configuration(host_page_bytes);
  return data.registers.write(reg::cc, data.configuration | cc_shutdown_normal);
}

result<> unmap_window(controller_data& data) noexcept {
  const auto started = data.domain.unmap(data.memory.memory());
  if (!started) {
    return std::unexpected{started.error()};
  }
  data.map_ticket = *started;
  return {};
}

/// Whatever was read of CC last may be long ago: all of it is written.
result<> clear_enable(controller_data& data) noexcept {
  return data.registers.write(reg::cc, enabled_configuration(host_page_bytes) & ~cc_enable);
}

constexpr std::array retire_table{
    step{"disable", step_limit::answer, clear_enable, after_access<learn_nothing>},
    step{"wait for disable", step_limit::ready, start_poll, until_disabled},
};

constexpr std::array shutdown_table{
    step{"delete queues", step_limit::admin, delete_queues, until_queues_deleted},
    step{"announce shutdown", step_limit::answer, announce_shutdown, after_access<learn_nothing>},
    step{"wait for shutdown", step_limit::shutdown, start_poll,
         until_status<csts_shutdown_mask, csts_shutdown_complete, true>},
    step{"disable", step_limit::answer, start_disable, after_access<learn_nothing>},
    step{"wait for disable", step_limit::ready, start_poll, until_disabled},
    step{"unmap memory", step_limit::answer, unmap_window, after_map},
};

}  // namespace

std::span<const step> shutdown_steps() noexcept {
  return shutdown_table;
}
std::span<const step> retire_steps() noexcept {
  return retire_table;
}

}  // namespace runnel::nvme
