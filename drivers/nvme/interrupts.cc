#include <sys/eventfd.h>

#include <optional>
#include <vector>

#include "drivers/nvme/step_actions.h"
#include "drivers/vfio/transport.h"

// An eventfd for each I/O queue, so that it can wake a core that sleeps.
namespace runnel::nvme {
namespace {

/// Makes an eventfd for each queue, at the first bring-up: queues keep theirs.
bool have_wakes(controller_data& data) noexcept {
  if (!data.queues.empty()) {
    return !data.wakes.empty();
  }
  data.wakes.clear();
  for (std::uint32_t i = 0; i < data.options.queue_count; ++i) {
    if (!data.wakes.emplace_back(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK))) {
      data.wakes.clear();
      return false;
    }
  }
  return true;
}

/// Queues that are made without one never sleep; those that exist rely on theirs.
result<> do_without(controller_data& data) noexcept {
  if (!data.queues.empty()) {
    data.hint = "its queues had interrupts before";
    return fail(errc::bad_status);
  }
  data.wakes.clear();
  return {};
}

}  // namespace

/// Queues that exist have theirs, or none; told again, the kernel writes them anew where a reset
/// has wiped them. Vector 0 is that of the admin queue, which is polled. Without interrupts all
/// works, but no core sleeps while it has requests there.
result<> assign_interrupts(controller_data& data) noexcept {
  constexpr auto msix = static_cast<std::uint32_t>(vfio::pci_irq::msix);
  if (!data.options.interrupts || data.transport.irq_at(msix).count <= data.options.queue_count ||
      !have_wakes(data)) {
    return {};
  }
  std::vector<int> eventfds;
  for (const unique_fd& wake : data.wakes) {
    eventfds.push_back(wake.get());
  }
  const auto started = data.transport.set_irqs(msix, 1, eventfds);
  if (started) {
    data.irq_ticket = *started;
    return {};
  }
  return started.error().code == errc::queue_full ? result<>{std::unexpected{started.error()}}
                                                  : do_without(data);
}

result<bool> until_interrupts_assigned(controller_data& data, instant) noexcept {
  if (!data.irq_ticket) {
    return true;
  }
  const auto reply = data.transport.take(*data.irq_ticket);
  if (!reply) {
    return false;
  }
  data.irq_ticket.reset();
  if (reply->status.code == errc::ok) {
    return true;
  }
  const result<> done = do_without(data);
  return done ? result<bool>{true} : std::unexpected{done.error()};
}

}  // namespace runnel::nvme
