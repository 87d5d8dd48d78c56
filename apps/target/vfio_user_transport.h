#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "apps/target/client_guest_memory.h"
#include "apps/target/controller.h"
#include "apps/target/dma_mapper.h"
#include "apps/target/doorbell_area.h"
#include "apps/target/interrupt_lines.h"
#include "apps/target/io_core.h"
#include "apps/target/memory_table.h"
#include "apps/target/pci_config.h"
#include "apps/target/subsystem.h"
#include "drivers/vfio_user/client_memory.h"
#include "drivers/vfio_user/device_model.h"
#include "drivers/vfio_user/server.h"

namespace runnel::target {

/// How a client rings.
enum class doorbell_mode : std::uint8_t {
  mapped,   // in a page of ours that it maps: without a message
  shadow,   // in its own memory, where it knows how to; a message only when we ask for one
  trapped,  // always by a message
};

struct endpoint_options {
  std::string name = "vfio-user";  // the object of what is reported
  controller_options controller;
  doorbell_mode doorbells = doorbell_mode::mapped;
  /// Cores besides this one that serve its I/O queues; polled there, and outliving it.
  std::vector<io_core*> others{};
  /// Told once of each thing that a user should know and that no reply carries. @context the core
  std::function<void(const failure&)> on_trouble;
};

/// An NVMe controller as a PCI function on a vfio-user server: BAR 0 with registers and doorbells,
/// MSI-X in BARs 4 and 5, configuration space. One client at a time, each with a controller, a
/// doorbell page and maps of its own, so nothing of one client is left for the next.
///
/// @context one core; `poll` every turn. Cores that help with I/O queues poll only their `io_core`
class vfio_user_endpoint final : public vfio_user::device_model, private interrupt_sink {
 public:
  /// @param paths    this endpoint's queues, one for each namespace
  /// @param devices  of the subsystem that have DMA
  vfio_user_endpoint(const subsystem& system, std::span<namespace_path> paths,
                     const std::vector<block_device*>& devices, endpoint_options options);

  /// Who gets the answers that come later. @pre before the first client
  void answer_through(vfio_user::server& server) noexcept { server_ = &server; }

  /// Moves the data, and what requests of the client wait for. @return how much was found to do
  std::uint32_t poll(instant now) noexcept;
  /// Whether this core may sleep until the client sends something, or a device does; see
  /// `source::arm`. Not while the client has the doorbells mapped.
  [[nodiscard]] bool arm() noexcept;
  void disarm() noexcept;
  /// True once after a poll that answered a request: the server sends it at its next `advance`.
  [[nodiscard]] bool take_answered() noexcept { return std::exchange(answered_, false); }

  /// The controller of the present client; null between clients.
  [[nodiscard]] const controller* current() const noexcept {
    return session_ ? &session_->nvme : nullptr;
  }
  /// Over all clients, of this core.
  [[nodiscard]] io_counters counters() const noexcept;

  [[nodiscard]] const vfio_user::device_layout& init() override { return layout_; }
  void open_device(vfio_user::client_memory& memory) override;
  [[nodiscard]] bool close_device() override;
  [[nodiscard]] vfio_user::answer read(vfio_user::request_id id, std::uint32_t region,
                                       std::uint64_t offset, std::span<std::byte> out) override;
  [[nodiscard]] vfio_user::answer write(vfio_user::request_id id, std::uint32_t region,
                                        std::uint64_t offset,
                                        std::span<const std::byte> in) override;
  [[nodiscard]] vfio_user::answer set_irq_triggers(std::uint32_t index, std::uint32_t start,
                                                   std::span<unique_fd> eventfds) override;
  void disable_irqs(std::uint32_t index) override;
  [[nodiscard]] vfio_user::answer trigger_irqs(const vfio::irq_vectors& which) override;
  void mask_irq(std::uint32_t index, bool masked) override;
  [[nodiscard]] vfio_user::answer reset(vfio_user::request_id id) override;
  [[nodiscard]] vfio_user::answer dma_map(vfio_user::request_id id, const region& added) override;
  [[nodiscard]] vfio_user::answer dma_unmap(vfio_user::request_id id,
                                            const region& leaving) override;

 private:
  /// What lives as long as one client.
  struct session {
    session(const subsystem& system, const controller_options& options,
            const vfio_user::client_memory& client, const controller_ports& ports);
    client_guest_memory memory;
    memory_table others_memory;  // where it is, for the others; empty where there are none
    controller nvme;
    bool memory_without_file = false;  // the client announced memory that we cannot reach
    bool failure_told = false;
  };
  /// The one request of the client that is answered later, and why.
  enum class waiting : std::uint8_t {
    nothing,
    reset,
    bus_master_off,
    map,    // until devices reach it
    add,    // until the cores stand still
    leave,  // the same
    drain,
    unmap
  };

  void describe_layout();
  [[nodiscard]] std::span<std::byte> make_doorbells();
  [[nodiscard]] bool let_go_of_memory();
  [[nodiscard]] vfio_user::answer write_config(vfio_user::request_id id, std::uint64_t offset,
                                               std::span<const std::byte> in);
  void write_registers(std::uint64_t offset, std::span<const std::byte> in);
  void read_pending_bits(std::uint64_t offset, std::span<std::byte> out) const;
  [[nodiscard]] vfio_user::answer wait(waiting what, vfio_user::request_id id,
                                       const region* memory = nullptr);
  /// @return the errno of the answer, empty while it must wait on
  [[nodiscard]] std::optional<int> go_on();
  [[nodiscard]] std::optional<int> map();
  [[nodiscard]] std::optional<int> drain();
  void reset_function();
  void report_if_fatal();
  void report_unreachable(error why);
  [[nodiscard]] interrupt_lines* lines_of(std::uint32_t index) noexcept;
  void raise(std::uint16_t vector) noexcept override;
  void look_at_pin() noexcept override { update_pin(); }
  void update_pin() noexcept;

  const subsystem& system_;
  std::span<namespace_path> paths_;
  endpoint_options options_;
  vfio_user::server* server_ = nullptr;
  vfio_user::device_layout layout_;
  pci_config config_;
  interrupt_lines msix_;
  interrupt_lines pin_{1};
  bool pin_masked_ = false;            // by the client, or by our last interrupt until it unmasks
  std::vector<std::byte> msix_table_;  // storage only: clients route vectors by eventfd
  dma_mapper mapper_;
  alignas(64) std::array<std::byte, doorbell_area::bytes> trapped_doorbells_{};
  std::optional<doorbell_area> mapped_doorbells_;
  std::optional<session> session_;
  waiting waiting_ = waiting::nothing;
  vfio_user::request_id request_id_{};
  const region* region_ = nullptr;  // being mapped or unmapped
  bool answered_ = false;
  io_counters former_;  // of clients that are gone
};

}  // namespace runnel::target
