#include <array>
#include <cstring>

#include "drivers/nvme/step_actions.h"
#include "drivers/nvme/steps.h"

// What is done with a controller that runs: look after it, ask it, take it down.
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
    step{"delete queues", step_limit::answer, delete_queues, until_queues_deleted},
    step{"announce shutdown", step_limit::answer, announce_shutdown, after_access<learn_nothing>},
    step{"wait for shutdown", step_limit::shutdown, start_poll,
         until_status<csts_shutdown_mask, csts_shutdown_complete, true>},
    step{"disable", step_limit::answer, start_disable, after_access<learn_nothing>},
    step{"wait for disable", step_limit::ready, start_poll, until_disabled},
    step{"unmap memory", step_limit::answer, unmap_window, after_map},
};

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
    step{"read log page", step_limit::answer, ask_log, until_log_read},
};

}  // namespace

std::span<const step> shutdown_steps() noexcept {
  return shutdown_table;
}
std::span<const step> retire_steps() noexcept {
  return retire_table;
}
std::span<const step> watch_steps() noexcept {
  return watch_table;
}
std::span<const step> log_steps() noexcept {
  return log_table;
}

}  // namespace runnel::nvme
