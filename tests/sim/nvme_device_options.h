#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string_view>
#include <vector>

#include "drivers/nvme/command_limits.h"
#include "drivers/nvme/identify.h"
#include "drivers/nvme/spec.h"

// What a simulated NVMe device is like, and what is wrong with it.
namespace runnel::sim {

struct nvme_device_options {
  std::uint32_t queue_entries = 1024;
  std::uint32_t block_shift = 9;
  std::uint64_t block_count = 4096;
  std::uint8_t mdts = 5;  // 128 KiB
  std::uint32_t queues = 8;
  std::uint32_t doorbell_shift = 0;  // CAP.DSTRD
  bool ready_modes = false;
  std::uint16_t ready_timeout = 8;   // CRTO, in 500 ms
  std::uint32_t shutdown_limit = 0;  // RTD3E, in microseconds
  std::uint32_t page_shift_min = 0;  // CAP.MPSMIN
  bool volatile_cache = false;
  std::uint16_t oncs = 0;
  std::uint8_t aerl = 3;
  bool shadow_doorbells = false;
  std::uint32_t oaes = 0;
  nvme::identify_command_set limits{};
  std::vector<std::uint32_t> namespaces = {1};
};

inline nvme::identify_controller identity_of(const nvme_device_options& options) {
  nvme::identify_controller data{};
  constexpr std::string_view model = "Simulated device";
  data.mn.fill(' ');
  std::ranges::copy(model, data.mn.begin());
  data.mdts = options.mdts;
  data.rtd3e = options.shutdown_limit;
  data.sqes = 0x66;
  data.cqes = 0x44;
  data.oncs = options.oncs;
  data.aerl = options.aerl;
  data.nn = options.namespaces.empty() ? 0 : options.namespaces.back();
  data.oacs = options.shadow_doorbells ? nvme::oacs_doorbell_buffer : 0;
  data.oaes = options.oaes;
  data.vwc = options.volatile_cache ? nvme::vwc_present : 0;
  return data;
}

struct nvme_faults {
  bool absent = false;  // every register reads as ones
  bool never_ready = false;
  bool never_disabled = false;
  bool fatal_on_enable = false;
  bool never_shut_down = false;
  bool hold_io = false;                          // fetch I/O commands, complete none
  std::optional<std::size_t> admin_answers_max;  // later admin commands are not answered
  std::set<nvme::admin_opcode> unanswered;       // admin commands that are carried out in silence
  bool refuse_event_requests = false;
  bool aborts_nothing = false;  // an abort finds no command
  std::map<nvme::admin_opcode, nvme::status_code> admin_status;
  std::map<nvme::identify_cns, nvme::status_code> identify_status;
  nvme::status_code io_status = nvme::status_code::success;
};

}  // namespace runnel::sim
