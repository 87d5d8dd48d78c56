#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "apps/target/admin.h"
#include "apps/target/cache_flush.h"
#include "apps/target/controller_state.h"
#include "apps/target/guest_memory.h"
#include "apps/target/interrupt_lines.h"
#include "apps/target/io_core.h"
#include "apps/target/io_crew.h"
#include "apps/target/queue_table.h"
#include "apps/target/registers.h"
#include "apps/target/subsystem.h"

namespace runnel::target {

struct controller_options {
  std::uint16_t id = 1;  // unique among the controllers of the subsystem
  queue_limits queues;
  /// Offers the host to ring in its own memory; needs doorbells so close that they fit into a page.
  bool shadow_doorbells = false;
};

/// What a controller reaches the world by; all of it is the transport's and outlives it.
struct controller_ports {
  const guest_memory* memory = nullptr;
  interrupt_sink* interrupts = nullptr;
  std::span<namespace_path> paths;  // one for each namespace of the subsystem
  std::span<std::byte> doorbells;   // the host writes here, in shared memory or through us
  /// Cores that help with the I/O queues, and how these see the host's memory: what that is changes
  /// while they stand still.
  std::span<io_core* const> others{};
  const guest_memory* others_memory = nullptr;
};

/// An NVMe controller for one host: registers, queues, commands. It knows nothing of how the host
/// reaches it. Everything that must wait for commands in flight (disabling, reset, shutdown, memory
/// that leaves, a host that vanishes) is asked for at once and finished by later polls; that is the
/// only way in which it waits.
///
/// The host is free to do anything in any order; at worst its commands fail.
///
/// Its I/O queues may be spread over several cores (`io_crew`). Whatever changes under these cores
/// then waits until they stand still, a turn or two.
///
/// @context one core; no allocation and no system call but those of interrupts
class controller {
 public:
  controller(const subsystem& system, const controller_options& options,
             const controller_ports& ports);
  controller(const controller&) = delete;
  controller& operator=(const controller&) = delete;
  ~controller() = default;

  /// Registers, then doorbells; any width at any offset. Where there is nothing, zero is read and
  /// writes have no effect. @pre offset + size does not wrap
  void read_register(std::size_t offset, std::span<std::byte> out) const noexcept;
  void write_register(std::size_t offset, std::span<const std::byte> in) noexcept;

  /// One turn of its own core: answers what devices have finished, takes new commands, interrupts.
  /// @return how much was found to do
  std::uint32_t poll(instant now) noexcept;

  /// Before its core sleeps, after a poll that found nothing: has the host ring for what it does
  /// next. What the devices do is told by them. One more poll follows, after a fence.
  /// @return false: something is under way that nobody tells of
  [[nodiscard]] bool arm() noexcept;
  /// The host need not ring: `poll` looks by itself again.
  void disarm() noexcept { crew_.disarm(); }

  /// Takes no commands until `resume`. What is in flight ends by itself; `quiet` tells when. Both
  /// may be called again at any time.
  void pause() noexcept;
  void resume() noexcept;
  [[nodiscard]] bool quiet() noexcept { return flush_.done() && crew_.quiet(); }

  /// True: the other cores stand still until the end of the next poll. Else they have been asked
  /// to: ask again after it. A controller without others always says yes.
  [[nodiscard]] bool stand_still() noexcept { return crew_.stand_still(); }

  /// As after power-on. @pre quiet() just now
  void reset() noexcept;

  /// Memory was added: queues that were out of reach are looked for again. @pre stand_still()
  void memory_added() noexcept;
  /// Memory no longer resolves but is still there: nothing more is started on it.
  /// `memory_left` tells when nothing in flight uses it either.
  /// @pre memory_left(), then stand_still()
  void memory_leaving() noexcept;
  [[nodiscard]] bool memory_left() noexcept;

  /// A namespace is another than it was, for instance in size.
  void namespace_changed(std::uint32_t nsid) noexcept { admin_.namespace_changed(nsid); }

  /// The interrupt pin: some queue has news, and the host has not masked it. Of queues on other
  /// cores that is known while they stand still; `interrupt_sink::look_at_pin` follows.
  /// @spec §3.1.3.3
  [[nodiscard]] bool pin_asserted() noexcept;

  [[nodiscard]] const controller_state& state() const noexcept { return state_; }
  /// Of this core. What the others did is theirs to tell, see `io_core::counters`.
  [[nodiscard]] const io_counters& counters() const noexcept { return crew_.own().counters(); }
  [[nodiscard]] std::uint64_t flush_failures() const noexcept { return flush_.failures(); }

 private:
  /// What is to happen once nothing is in flight.
  enum class goal : std::uint8_t { none, disable, shutdown, flush };

  void configure(std::uint32_t before) noexcept;
  void enable() noexcept;
  [[nodiscard]] bool open_admin_queues() noexcept;
  void begin_shutdown() noexcept;
  void settle() noexcept;
  void clear() noexcept;
  void decide_fetching() noexcept;
  [[nodiscard]] std::uint32_t serve_admin() noexcept;
  void report_wrong_doorbells() noexcept;
  [[nodiscard]] std::size_t interrupting_cores() const noexcept;
  void interrupt(instant now) noexcept;
  [[nodiscard]] std::uint32_t attend_crew() noexcept;
  [[nodiscard]] bool any_unread(std::size_t core) noexcept;

  const subsystem& system_;
  controller_options options_;
  controller_ports ports_;
  controller_state state_;
  register_file registers_;
  queue_table queues_;
  io_crew crew_;
  admin_queue admin_;
  cache_flush flush_;
  goal goal_ = goal::none;
  bool paused_ = false;
  bool fetching_ = false;
  bool completions_stale_ = false;  // completion queues in leaving memory are still in use
  bool pin_unsure_ = false;         // what other cores' queues have to tell was not seen
  std::uint64_t reported_doorbells_ = 0;
};

}  // namespace runnel::target
