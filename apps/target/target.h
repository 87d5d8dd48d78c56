#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "apps/target/port.h"
#include "apps/target/subsystem.h"
#include "drivers/block.h"
#include "mempool/base/error.h"
#include "runtime/engine.h"
#include "runtime/io/address.h"
#include "runtime/io/open.h"
#include "runtime/reactor.h"
#include "runtime/task.h"

namespace runnel::target {

struct target_options {
  std::vector<std::string> listeners;   // socket paths, one controller each
  std::vector<io::address> namespaces;  // 1..n in this order
  std::uint32_t queue_depth = 256;      // of each controller, where the address says nothing
  doorbell_mode doorbells = doorbell_mode::mapped;
  /// Clients that come and go, and trouble that no reply carries. Called on any core.
  std::function<void(const port_event&)> on_event;
};

/// A device to be served, and how deep the queue of each controller towards it is.
struct served_device {
  io::device_pointer device;
  std::uint32_t queue_depth = 256;
};

/// An NVMe subsystem served to other processes: block devices as namespaces, one controller for
/// each listener. A library: the application brings the engine, decides when to stop and prints.
/// @context control thread; the engine outlives it
class target {
 public:
  /// Opens the devices, then the sockets. Clients may connect from here on and are served after
  /// `start`.
  /// @error what a device or a socket says; invalid (nothing to serve or nowhere); unsupported
  ///        (a device with DMA on several cores, or for small transfers only)
  [[nodiscard]] static outcome<std::unique_ptr<target>> create(engine& host,
                                                               const target_options& options);
  /// The same with devices that are open already, in place of `options.namespaces`.
  [[nodiscard]] static outcome<std::unique_ptr<target>> create(engine& host,
                                                               const target_options& options,
                                                               std::vector<served_device> devices);
  target(const target&) = delete;
  target& operator=(const target&) = delete;
  ~target();  // stopped, if it was started

  /// Serves: listener i has core i, modulo the cores of the engine, for its client and the admin
  /// queue; the I/O queues are spread over all cores from there on. `stop` must follow.
  /// @error os; nothing is served then, and it is stopped
  [[nodiscard]] outcome<> start();

  /// Accepts nobody any more, ends the clients when their I/O has ended, makes everything that was
  /// written durable. Blocks, at most for `stop_deadline`.
  /// @error timed_out: a device does not finish; bad_status: a namespace could not be flushed
  [[nodiscard]] outcome<> stop();

  [[nodiscard]] const subsystem& system() const noexcept { return system_; }
  /// What its devices wished for, could not have and replaced, one sentence each.
  [[nodiscard]] std::vector<std::string> notes() const;
  /// Over all clients. @pre stopped, or never started
  [[nodiscard]] io_counters counters() const noexcept;
  /// Of one core of the engine. @pre as above
  [[nodiscard]] io_counters counters_of_core(std::size_t index) const noexcept;
  /// Payload that our cores moved themselves; 0 when all devices take the hosts' pages as they are.
  /// @pre as above
  [[nodiscard]] std::uint64_t payload_bytes_copied() const noexcept;

  static constexpr nanoseconds stop_deadline = std::chrono::seconds{10};
  /// Every core polls something for each of them, and has a few sources of its own.
  static constexpr std::size_t listeners_max = reactor::sources_max - 8;

 private:
  explicit target(engine& host) : host_{host} {}
  [[nodiscard]] outcome<> adopt(std::vector<served_device> devices);
  void describe(const target_options& options);
  [[nodiscard]] outcome<> open_ports(const target_options& options);
  [[nodiscard]] outcome<std::vector<namespace_path>> make_paths();
  [[nodiscard]] outcome<core_paths> make_core_paths();
  [[nodiscard]] task<result<>> drain(reactor& core, std::size_t core_index);
  [[nodiscard]] task<result<>> flush(reactor& core);
  [[nodiscard]] result<> attach();
  [[nodiscard]] result<> serve_devices(reactor& core);
  void leave_cores();
  /// The core of the engine that is a port's own (0) or one that helps it.
  [[nodiscard]] std::size_t core_of(std::size_t port_index, std::size_t which = 0) const noexcept {
    return (port_index + which) % host_.core_count();
  }
  void lend_cores(port& to, std::size_t port_index);
  void take_cores_back(port& from, std::size_t port_index);

  engine& host_;
  std::vector<served_device> devices_;              // outlive the ports' queues
  std::vector<std::unique_ptr<service>> controls_;  // of devices, on the first core
  subsystem system_;
  vfio_user::bus_space bus_;
  std::vector<std::unique_ptr<port>> ports_;
  bool started_ = false;
};

}  // namespace runnel::target
