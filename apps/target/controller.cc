#include "apps/target/controller.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstring>

#include "apps/target/identify.h"
#include "apps/target/prp_walk.h"
#include "drivers/mmio.h"
#include "mempool/base/bits.h"
#include "mempool/base/check.h"

namespace runnel::target {
namespace {

using nvme::csts_fatal;
using nvme::csts_ready;
using nvme::csts_shutdown_complete;
using nvme::csts_shutdown_mask;
using nvme::csts_shutdown_occurring;

/// CAP: contiguous queues only, ready within 10 s, NVM command set, pages of 4 KiB.
/// @spec NVMe Base 2.0 §3.1.3.1
std::uint64_t capabilities_of(const queue_limits& limits) noexcept {
  constexpr std::uint64_t contiguous_queues = 1U << 16U;
  constexpr std::uint64_t timeout = std::uint64_t{20} << 24U;
  constexpr std::uint64_t nvm_commands = std::uint64_t{1} << 37U;
  constexpr std::uint64_t ready_with_media = std::uint64_t{1} << 59U;  // and then CRTO tells when
  const auto stride = static_cast<unsigned>(std::countr_zero(limits.doorbell_stride_bytes / 4));
  return (limits.entries - 1U) | contiguous_queues | timeout | std::uint64_t{stride} << 32U |
         nvm_commands | ready_with_media;
}

/// Writes whole doorbells, for another core may be looking at them.
void write_doorbells(std::span<std::byte> doorbells, std::size_t offset,
                     std::span<const std::byte> in) noexcept {
  for (std::size_t done = 0; done < in.size();) {
    const std::size_t in_word = (offset + done) % sizeof(std::uint32_t);
    const std::size_t part = std::min(sizeof(std::uint32_t) - in_word, in.size() - done);
    std::byte* const word = doorbells.data() + (offset + done - in_word);
    auto bytes = std::bit_cast<std::array<std::byte, 4>>(mmio_read<std::uint32_t>(word));
    std::copy_n(in.begin() + static_cast<std::ptrdiff_t>(done), part, bytes.begin() + in_word);
    mmio_write(word, std::bit_cast<std::uint32_t>(bytes));
    done += part;
  }
}

void lead_to_namespaces(std::span<namespace_path> paths, const subsystem& system) noexcept {
  CHECK(paths.size() == system.namespaces.size());
  for (std::size_t i = 0; i < paths.size(); ++i) {
    const exported_namespace& space = system.namespaces[i];
    paths[i].pair_gate = space.pair_gate.get();
    paths[i].deallocated_is_zero = space.device->info().deallocated_is_zero;
  }
}

controller_state initial_state(const controller_options& options, instant now) noexcept {
  controller_state state;
  state.features = initial_features(now);
  state.io_queues = options.queues.io_queues;
  return state;
}

}  // namespace

controller::controller(const subsystem& system, const controller_options& options,
                       const controller_ports& ports)
    : system_{system},
      options_{options},
      ports_{ports},
      state_{initial_state(options, system.now())},
      registers_{state_.registers, capabilities_of(options.queues), nvme_version},
      queues_{state_, *ports.memory, options.queues, ports.doorbells, 1 + ports.others.size()},
      crew_{{.queues = &queues_,
             .memory = ports.memory,
             .paths = ports.paths,
             .errors = &state_.errors},
            {.transfer_bytes_max = system.transfer_bytes_max, .operations = system.operations},
            ports.others,
            ports.others_memory},
      admin_{state_,
             queues_,
             crew_,
             system,
             *ports.memory,
             {.controller_id = options.id,
              .features = {.io_queues = options.queues.io_queues,
                           .vectors = options.queues.vectors,
                           .volatile_cache = system.volatile_cache},
              .shadow_doorbells = options.shadow_doorbells}},
      flush_{ports.paths} {
  lead_to_namespaces(ports.paths, system);
  for (io_core* const core : ports.others) {
    lead_to_namespaces(core->paths(), system);
  }
}

void controller::read_register(std::size_t offset, std::span<std::byte> out) const noexcept {
  registers_.read(offset, out);  // zero where there are none
  const overlap rings = find_overlap(offset, out.size(), register_bytes, ports_.doorbells.size());
  std::memcpy(out.data() + rings.in_access, ports_.doorbells.data() + rings.in_range, rings.bytes);
}

void controller::write_register(std::size_t offset, std::span<const std::byte> in) noexcept {
  const std::uint32_t before = state_.registers.configuration;
  registers_.write(offset, in);
  configure(before);
  const overlap rings = find_overlap(offset, in.size(), register_bytes, ports_.doorbells.size());
  if (rings.bytes != 0) {
    write_doorbells(ports_.doorbells, rings.in_range, in.subspan(rings.in_access, rings.bytes));
    crew_.wake();
  }
}

/// Acts on the bits of CC that have just changed.
void controller::configure(std::uint32_t before) noexcept {
  const nvme::configuration was{before};
  const nvme::configuration now{state_.registers.configuration};
  if (was.enable() && !now.enable()) {
    goal_ = goal::disable;  // overrides a shutdown under way
  } else if (!was.enable() && now.enable() && goal_ == goal::none) {
    enable();  // else `settle` does it, once disabled
  }
  if (now.shutdown() != 0 && was.shutdown() == 0 && goal_ == goal::none) {
    begin_shutdown();
  }
  decide_fetching();
  settle();
}

void controller::enable() noexcept {
  CHECK(crew_.still());  // since it is disabled
  std::uint32_t& status = state_.registers.status;
  status &= ~csts_shutdown_mask;
  status |= !state_.memory_unshared && open_admin_queues() ? csts_ready : csts_fatal;
}

/// @return false when the configuration cannot work; the host sees CSTS.CFS
bool controller::open_admin_queues() noexcept {
  const register_state& registers = state_.registers;
  const nvme::configuration cc{registers.configuration};
  const bool entry_sizes_valid = (cc.sq_entry_bytes() == 1 || cc.sq_entry_bytes() == 64) &&
                                 (cc.cq_entry_bytes() == 1 || cc.cq_entry_bytes() == 16);
  if (cc.command_set() != 0 || cc.arbitration() != 0 || cc.page_bytes() != page_bytes ||
      !entry_sizes_valid) {
    return false;
  }
  const std::uint32_t submission_entries = (registers.admin_queues & 0xfffU) + 1;
  const std::uint32_t completion_entries = (registers.admin_queues >> 16U) + 1;
  if (submission_entries < 2 || completion_entries < 2) {
    return false;
  }
  const nvme::status_code status = queues_.create_admin(
      {.base = iova{registers.admin_sq}, .entries = submission_entries},
      {.base = iova{registers.admin_cq}, .entries = completion_entries, .interrupts = true});
  return status == nvme::status_code::success;
}

void controller::begin_shutdown() noexcept {
  state_.registers.status =
      (state_.registers.status & ~csts_shutdown_mask) | csts_shutdown_occurring;
  goal_ = goal::shutdown;
}

void controller::decide_fetching() noexcept {
  constexpr std::uint32_t decisive = csts_ready | csts_fatal | csts_shutdown_mask;
  fetching_ = !paused_ && goal_ == goal::none && (state_.registers.status & decisive) == csts_ready;
}

/// Finishes what had to wait for commands in flight.
void controller::settle() noexcept {
  if (goal_ == goal::none || !quiet()) {
    return;
  }
  switch (goal_) {
    case goal::disable:
      goal_ = goal::none;
      clear();
      if (nvme::configuration{state_.registers.configuration}.enable()) {
        enable();
      }
      break;
    case goal::shutdown:
      goal_ = goal::flush;
      flush_.start();
      break;
    case goal::flush:
      goal_ = goal::none;
      state_.registers.status =
          (state_.registers.status & ~csts_shutdown_mask) | csts_shutdown_complete;
      break;
    case goal::none:
      break;
  }
  decide_fetching();
}

/// A controller level reset: all but the admin queue registers. @spec NVMe Base 2.0 §3.7.2
void controller::clear() noexcept {
  CHECK(quiet());
  queues_.remove_all();
  admin_.reset();
  const register_state kept = state_.registers;
  const std::uint64_t errors = state_.errors.count;
  const bool memory_unshared = state_.memory_unshared;
  state_ = initial_state(options_, system_.now());
  state_.errors.count = errors;
  state_.memory_unshared = memory_unshared;
  state_.registers.admin_queues = kept.admin_queues;
  state_.registers.admin_sq = kept.admin_sq;
  state_.registers.admin_cq = kept.admin_cq;
  state_.registers.configuration = kept.configuration;
  crew_.set_write_through(false);
}

void controller::reset() noexcept {
  clear();
  state_.registers = {};
  goal_ = goal::none;
  decide_fetching();
}

void controller::pause() noexcept {
  paused_ = true;
  decide_fetching();
}

void controller::resume() noexcept {
  paused_ = false;
  decide_fetching();
}

void controller::memory_added() noexcept {
  CHECK(crew_.still());
  queues_.find_submissions();
  if (!completions_stale_) {
    queues_.find_completions();
  }
}

void controller::memory_leaving() noexcept {
  crew_.forget_memory();
  admin_.forget_memory();
  queues_.find_submissions();
  completions_stale_ = true;
}

bool controller::memory_left() noexcept {
  if (completions_stale_ && crew_.memory_forgotten()) {
    completions_stale_ = false;
    queues_.find_completions();
  }
  return !completions_stale_;
}

std::uint32_t controller::poll(instant now) noexcept {
  std::uint32_t work = crew_.own().collect();
  if (fetching_) {
    work += crew_.own().fetch();
    report_wrong_doorbells();
    work += serve_admin();
  } else if (goal_ != goal::none) {
    if (!flush_.done()) {
      flush_.advance();  // also when the host disables while it shuts down
    }
    settle();
  }
  interrupt(now);
  if (!crew_.alone()) {
    work += attend_crew();
  }
  return work;
}

std::uint32_t controller::serve_admin() noexcept {
  if (!admin_.due()) [[likely]] {
    return 0;
  }
  if (!crew_.stand_still()) {
    return 1;
  }
  const std::uint32_t commands = admin_.serve();
  decide_fetching();  // the command may have shown that nothing can be served
  return commands;
}

/// Hears what the other cores have to tell, and lets those go on that stood still for this turn.
std::uint32_t controller::attend_crew() noexcept {
  const bool interrupted = crew_.take_interrupts(*ports_.interrupts);
  if (pin_unsure_ && crew_.stand_still()) {
    pin_unsure_ = false;
    ports_.interrupts->look_at_pin();
  }
  const bool waiting = crew_.end_turn(fetching_);
  return interrupted || waiting ? 1 : 0;
}

bool controller::arm() noexcept {
  for (std::size_t core = 0; core < interrupting_cores(); ++core) {
    if (queues_.of_core(core).interrupts_open()) {
      return false;
    }
  }
  return goal_ == goal::none && !pin_unsure_ && crew_.arm();
}

void controller::report_wrong_doorbells() noexcept {
  const std::uint64_t wrong = crew_.wrong_doorbells();
  if (wrong != reported_doorbells_) {
    reported_doorbells_ = wrong;
    admin_.report(nvme::error_event::invalid_doorbell_value);
  }
}

/// All while the others stand still: they may stay so.
std::size_t controller::interrupting_cores() const noexcept {
  return crew_.still() ? queues_.core_count() : 1;
}

void controller::interrupt(instant now) noexcept {
  for (std::size_t core = 0; core < interrupting_cores(); ++core) {
    for (completion_queue* queue : queues_.of_core(core).interrupting) {
      if (queue->interrupt_due(now, crew_.own().counters().wrong_doorbells)) {
        ports_.interrupts->raise(queue->state().vector);
      }
    }
  }
}

bool controller::pin_asserted() noexcept {
  if ((state_.registers.interrupt_mask & 1U) != 0) {
    return false;
  }
  if (any_unread(0)) {
    return true;
  }
  for (std::size_t core = 1; core < queues_.core_count(); ++core) {
    if (queues_.of_core(core).interrupting.empty()) {
      continue;
    }
    if (!crew_.still()) {
      pin_unsure_ = true;
    } else if (any_unread(core)) {
      return true;
    }
  }
  return false;
}

bool controller::any_unread(std::size_t core) noexcept {
  return std::ranges::any_of(queues_.of_core(core).interrupting, [this](completion_queue* queue) {
    return queue->unread(crew_.own().counters().wrong_doorbells);
  });
}

}  // namespace runnel::target
