#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "drivers/nvme/step_actions.h"
#include "drivers/nvme/steps.h"
#include "mempool/base/bits.h"

// From a transport to registers and doorbells within reach.
namespace runnel::nvme {

result<> learn_capabilities(controller_data& data, std::uint64_t value) noexcept {
  data.caps.raw = value;
  data.ready_timeout_ms = std::max(data.caps.ready_timeout_ms(), 500U);  // 0 is not meant
  if (!data.caps.nvm_command_set()) {
    data.hint = "the controller does not know the NVM command set";
    return fail(errc::unsupported);
  }
  if (data.caps.page_bytes_min() != host_page_bytes) {
    data.hint = fmt::format("the controller wants pages of at least {} bytes, we have {}",
                            data.caps.page_bytes_min(), host_page_bytes);
    return fail(errc::unsupported);
  }
  if (data.caps.queue_entries_max() < 2) {
    data.hint = "CAP.MQES is 0";
    return fail(errc::protocol);
  }
  const std::uint32_t depth_max = data.caps.queue_entries_max() - 1;
  if (data.options.queue_depth == 0 || data.options.queue_depth > depth_max) {
    data.hint = fmt::format("queue depth {} is not between 1 and {}, what its queues hold",
                            data.options.queue_depth, depth_max);
    return fail(errc::invalid);
  }
  data.info.queue_depth_max = data.options.queue_depth;
  return {};
}

namespace {

constexpr auto bar0 = static_cast<std::uint32_t>(vfio::pci_region::bar0);

result<bool> until_connected(controller_data& data, instant) noexcept {
  return data.transport.state() == vfio::transport_state::ready;
}

result<> map_window(controller_data& data) noexcept {
  const auto started = data.domain.map(data.memory.memory());
  if (!started) {
    data.hint = data.domain.map_hint(started.error(), data.memory.memory());
    return std::unexpected{started.error()};
  }
  data.map_ticket = *started;
  return {};
}

result<bool> until_window_mapped(controller_data& data, instant now) noexcept {
  const auto mapped = after_map(data, now);
  if (!mapped) {
    data.hint = data.domain.map_hint(mapped.error(), data.memory.memory());
  }
  return mapped;
}

result<> learn_version(controller_data& data, std::uint64_t value) noexcept {
  data.version = static_cast<std::uint32_t>(value);
  return {};
}

result<> read_pci_id(controller_data& data) noexcept {
  return data.registers.read(vfio::pci_region::config, pci_id, 4);
}

result<> learn_pci_id(controller_data& data, std::uint64_t value) noexcept {
  data.quirks = quirks_of(static_cast<std::uint32_t>(value));
  return {};
}

/// Doorbells of all queues we will have. Where they cannot be mapped, queues post them.
result<> map_doorbells(controller_data& data) noexcept {
  constexpr auto first = static_cast<std::uint64_t>(reg::doorbells);
  const std::uint64_t size = data.transport.region_at(bar0).size;
  const std::uint64_t end =
      sq_doorbell_offset(data.options.queue_count + 1, data.caps.doorbell_stride_bytes());
  if (end > size) {
    data.hint = fmt::format("BAR0 has {} bytes, the doorbells of {} queues end at {}", size,
                            data.options.queue_count, end);
    return fail(errc::invalid);
  }
  const std::uint64_t wanted = std::min(align_up(end, host_page_bytes), size) - first;
  data.doorbells = data.transport.map_region(bar0, first, wanted);
  data.info.queue_count_max = data.options.queue_count;
  return {};
}

constexpr std::array attach_table{
    step{"connect", step_limit::transport, start_nothing, until_connected},
    step{"map memory", step_limit::answer, map_window, until_window_mapped},
    step{"read PCI id", step_limit::answer, read_pci_id, after_access<learn_pci_id>},
    step{"read PCI command", step_limit::answer, read_pci_command, after_access<learn_pci_command>},
    step{"enable bus mastering", step_limit::answer, enable_memory_and_master,
         after_access<learn_nothing>},
    step{"read capabilities", step_limit::answer, start_read<reg::cap, 8>,
         after_access<learn_capabilities>},
    step{"read version", step_limit::answer, start_read<reg::vs>, after_access<learn_version>},
    step{"map doorbells", step_limit::answer, map_doorbells, done_at_once},
};

}  // namespace

std::span<const step> attach_steps() noexcept {
  return attach_table;
}

}  // namespace runnel::nvme
