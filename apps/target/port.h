#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "apps/target/device_watch.h"
#include "apps/target/io_core.h"
#include "apps/target/io_path.h"
#include "apps/target/subsystem.h"
#include "apps/target/vfio_user_transport.h"
#include "drivers/vfio_user/listener.h"
#include "drivers/vfio_user/server.h"
#include "mempool/base/error.h"
#include "mempool/base/unique_fd.h"
#include "runtime/reactor.h"

namespace runnel::target {

/// What happened at a port; `why` is null when a client came or left by itself.
struct port_event {
  enum class kind : std::uint8_t { client_came, client_left, trouble };
  kind what;
  const std::string& port;  // its path
  const failure* why;
  std::uint64_t reads = 0;  // that the client had done by all cores, when it has left
  std::uint64_t writes = 0;
};

/// What a port serves its namespaces by: on each of its cores a path to each of them, the first
/// core being its own.
using core_paths = std::vector<std::vector<namespace_path>>;

struct port_options {
  controller_options controller;
  doorbell_mode doorbells = doorbell_mode::mapped;
  std::size_t maps_max = vfio_user::client_memory::maps_max;  // of its client
  vfio_user::bus_space* bus = nullptr;                        // for its memory; outlives the port
  std::function<void(const port_event&)> on_event;            // rare; called on the port's core
};

/// One socket, one controller, one client at a time: the next is accepted when the last has been
/// torn down. Made on the control thread, then lives on one core; others help with the I/O queues.
class port {
 public:
  /// @param paths  owned from now on
  /// @error what binding the socket says; no_memory
  [[nodiscard]] static outcome<std::unique_ptr<port>> create(const std::string& socket_path,
                                                             const subsystem& system,
                                                             core_paths paths,
                                                             port_options options);
  port(const port&) = delete;
  port& operator=(const port&) = delete;
  ~port();  // closed and detached, or never attached

  /// Begins to accept clients. @context its core from here on @error os
  [[nodiscard]] result<> attach(reactor& core);
  /// Accepts nobody any more and ends the client. `closed` tells when its I/O has ended.
  void close();
  [[nodiscard]] bool closed() const noexcept;
  /// Leaves the core. A port that is not closed must never be destroyed after this: a device may
  /// still be working on its client's memory.
  void detach() noexcept;

  /// Its share of the work of the other cores: each is polled there while the port is attached, and
  /// not before.
  [[nodiscard]] std::span<const std::unique_ptr<io_core>> others() const noexcept {
    return others_;
  }

  [[nodiscard]] std::span<namespace_path> paths() noexcept { return paths_; }
  /// Of one of its cores, 0 being its own. @pre nobody is served
  [[nodiscard]] io_counters counters(std::size_t core) const noexcept {
    return core == 0 ? endpoint_.counters() : others_[core - 1]->counters();
  }
  [[nodiscard]] std::uint64_t payload_bytes_copied() const noexcept;

 private:
  port(vfio_user::listener socket, const subsystem& system, core_paths paths, port_options options);

  std::uint32_t poll() noexcept;
  [[nodiscard]] bool arm() noexcept;
  void disarm() noexcept;
  instant serve(instant now);
  instant accept();
  void welcome(std::unique_ptr<vfio_user::channel> client);
  [[nodiscard]] bool watch_client(int fd);
  void dismiss();
  void stop_listening() noexcept;
  void tell(port_event::kind what, const failure* why);
  void tell_left(const failure* why);
  [[nodiscard]] failure complaint(error what, std::string operation) const;

  vfio_user::listener socket_;
  port_options options_;
  std::vector<namespace_path> paths_;
  std::vector<std::unique_ptr<io_core>> others_;
  device_watch watch_;
  vfio_user_endpoint endpoint_;
  std::unique_ptr<vfio_user::server> server_;
  reactor* core_ = nullptr;
  service listening_;
  bool is_listening_ = false;
  bool accept_failed_ = false;
  bool closing_ = false;
  unique_fd client_fd_;  // a duplicate to be watched: the server closes its own when it likes
  bool has_client_ = false;
  std::optional<service> client_;  // of the last client, while there is none
  io_counters told_;               // over the clients that have left
};

}  // namespace runnel::target
