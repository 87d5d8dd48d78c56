#include <sys/eventfd.h>

#include <optional>
#include <vector>

#include "drivers/nvme/step_actions.h"
#include "drivers/vfio/transport.h"

// An eventfd for each I/O queue, so that it can wake a core that sleeps.
namespace runnel::nvme {

/// Queues that exist have theirs, or none. Vector 0 is that of the admin queue, which is polled.
/// Without interrupts all works, but no core sleeps while it has requests there.
result<> assign_interrupts(controller_data& data) noexcept {
  constexpr auto msix = static_cast<std::uint32_t>(vfio::pci_irq::msix);
  const std::uint32_t count = data.options.queue_count;
  if (!data.options.interrupts || !data.queues.empty() ||
      data.transport.irq_at(msix).count <= count) {
    return {};
  }
  data.wakes.clear();
  std::vector<int> eventfds;
  for (std::uint32_t i = 0; i < count; ++i) {
    unique_fd& wake = data.wakes.emplace_back(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!wake) {
      data.wakes.clear();
      return {};
    }
    eventfds.push_back(wake.get());
  }
  const auto started = data.transport.set_irqs(msix, 1, eventfds);
  if (started) {
    data.irq_ticket = *started;
    return {};
  }
  data.wakes.clear();
  return started.error().code == errc::queue_full ? result<>{std::unexpected{started.error()}}
                                                  : result<>{};
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
  if (reply->status.code != errc::ok) {
    data.wakes.clear();
  }
  return true;
}

}  // namespace runnel::nvme
