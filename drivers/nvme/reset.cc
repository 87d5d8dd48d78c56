#include <cerrno>

#include "drivers/nvme/step_actions.h"

// More than the controller is reset, and what any reset may have turned off is on again.
namespace runnel::nvme {
namespace {

/// While an earlier reset is under way, or the kernel holds the device, as it does to reset its
/// link.
constexpr nanoseconds reset_retry = std::chrono::milliseconds{10};

[[nodiscard]] bool is_held_up(error what) noexcept {
  return what.code == errc::busy || what.code == errc::queue_full ||
         what == error{errc::os, EAGAIN};
}

/// @return whether there is nothing to wait for: such a reset there is not
result<bool> start_reset(controller_data& data, instant now) noexcept {
  const auto started =
      data.scope == reset_scope::function ? data.transport.reset() : data.transport.hot_reset();
  if (started) {
    data.reset_ticket = *started;
    return false;
  }
  if (is_held_up(started.error())) {
    data.poll_at = now + reset_retry;
    return false;
  }
  return started.error().code == errc::unsupported ? result<bool>{true}
                                                   : std::unexpected{started.error()};
}

/// A function that cannot be reset alone may be with all of its bus.
result<bool> judge_reset(controller_data& data, error ended, instant now) noexcept {
  if (ended == error{errc::os, EAGAIN}) {
    data.poll_at = now + reset_retry;
    return false;
  }
  data.device_quiet = data.device_quiet || ended.code == errc::ok;
  if (ended.code == errc::ok || ended.code == errc::unsupported) {
    return true;
  }
  data.hint = data.transport.reset_hint();
  return data.scope == reset_scope::function ? fail(errc::bad_status) : std::unexpected{ended};
}

}  // namespace

result<> begin_reset(controller_data& data) noexcept {
  data.poll_at = {};
  if (data.scope != reset_scope::controller) {
    data.set_queues(queue_state::paused);
  }
  return {};
}

result<bool> until_reset(controller_data& data, instant now) noexcept {
  if (data.scope == reset_scope::controller) {
    return true;
  }
  if (!data.reset_ticket) {
    return now < data.poll_at ? result<bool>{false} : start_reset(data, now);
  }
  const auto reply = data.transport.take(*data.reset_ticket);
  if (!reply) {
    return false;
  }
  data.reset_ticket.reset();
  return judge_reset(data, reply->status, now);
}

result<> read_pci_command(controller_data& data) noexcept {
  return data.registers.read(vfio::pci_region::config, pci_command, 2);
}

/// Of what an absent device gives the kernel makes up some bits: not all are ones.
result<> learn_pci_command(controller_data& data, std::uint64_t value) noexcept {
  if ((value & pci_command_reserved) != 0) {
    return fail(errc::device_gone);
  }
  data.pci_command = static_cast<std::uint16_t>(value);
  return {};
}

result<> enable_memory_and_master(controller_data& data) noexcept {
  return data.registers.write(vfio::pci_region::config, pci_command,
                              data.pci_command | pci_command_memory | pci_command_bus_master, 2);
}

}  // namespace runnel::nvme
