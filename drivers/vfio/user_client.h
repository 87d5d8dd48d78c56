#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "drivers/vfio/dma_maps.h"
#include "drivers/vfio/domain.h"
#include "drivers/vfio/operation_table.h"
#include "drivers/vfio/transport.h"
#include "drivers/vfio_user/channel.h"
#include "drivers/vfio_user/message_reader.h"
#include "drivers/vfio_user/outbox.h"
#include "drivers/vfio_user/protocol.h"
#include "mempool/base/unique_fd.h"
#include "mempool/sigbus.h"

namespace runnel::vfio {

struct client_options {
  std::string object;  // names the peer in failures: "vfio-user:/run/a.sock"
  /// Until the peer's first answer. Short: something else may be listening there.
  nanoseconds greeting_timeout = std::chrono::milliseconds{1500};
  /// Until the answer to any later message.
  nanoseconds message_timeout = std::chrono::seconds{5};
};

/// A device in another process, reached by vfio-user; it is its own translation domain. The peer
/// is not trusted: what it says is bounded and checked, and a message that breaks the protocol ends
/// the connection, for both ends. It cannot make us wait, and reaches no memory by message that it
/// was not given. A region file that it shrinks under a mapped area ends the connection too, where
/// the application has installed `handle_sigbus`.
///
/// @context one thread; may allocate
/// @spec vfio-user 0.1
class user_client final : public device_transport, public iommu_domain {
 public:
  static constexpr std::size_t regions_max = 64;
  static constexpr std::size_t irqs_max = 64;
  static constexpr std::uint32_t vectors_max = 2048;  // of one interrupt, as PCI's MSI-X

  /// Says nothing to the peer before the first `advance`.
  user_client(std::unique_ptr<vfio_user::channel> to, client_options options);
  user_client(const user_client&) = delete;
  user_client& operator=(const user_client&) = delete;
  ~user_client() override;  // unmaps what `map_region` returned

  instant advance(instant now) noexcept override;
  [[nodiscard]] int event_fd() const noexcept override { return channel_->event_fd(); }

  [[nodiscard]] transport_state state() const noexcept override { return state_; }
  [[nodiscard]] const failure& reason() const noexcept override;

  [[nodiscard]] const device_info& info() const noexcept override { return info_; }
  [[nodiscard]] const region_info& region_at(std::uint32_t index) const noexcept override;
  [[nodiscard]] const irq_info& irq_at(std::uint32_t index) const noexcept override;

  [[nodiscard]] std::span<std::byte> map_region(std::uint32_t index, std::uint64_t offset,
                                                std::uint64_t length) noexcept override;

  [[nodiscard]] result<ticket> region_read(std::uint32_t index, std::uint64_t offset,
                                           std::uint32_t bytes) noexcept override;
  [[nodiscard]] result<ticket> region_write(std::uint32_t index, std::uint64_t offset,
                                            std::span<const std::byte> bytes) noexcept override;
  [[nodiscard]] result<> region_post(std::uint32_t index, std::uint64_t offset,
                                     std::span<const std::byte> bytes) noexcept override;
  [[nodiscard]] result<ticket> set_irqs(std::uint32_t index, std::uint32_t start,
                                        std::span<const int> eventfds) noexcept override;
  [[nodiscard]] result<ticket> trigger_irqs(const irq_vectors& which) noexcept override;
  [[nodiscard]] result<ticket> reset() noexcept override;
  [[nodiscard]] result<ticket> hot_reset() noexcept override;
  [[nodiscard]] result<ticket> device_feature(std::uint32_t flags,
                                              std::span<const std::byte> data) noexcept override;

  [[nodiscard]] result<ticket> map(const region& memory) noexcept override;
  [[nodiscard]] result<ticket> unmap(const region& memory) noexcept override;
  [[nodiscard]] std::vector<iova_range> allowed_ranges() const override;
  [[nodiscard]] domain_limits limits() const noexcept override;
  [[nodiscard]] result<ticket> set_dirty_tracking(bool on) noexcept override;

  [[nodiscard]] std::optional<transport_reply> take(ticket which) noexcept override;
  void abandon(ticket which) noexcept override;

 private:
  using operation = operation_table::operation;
  struct bring_up_step;

  /// A command and how much its reply may carry.
  struct question {
    vfio_user::command what{};
    std::span<const std::byte> fixed = {};
    std::span<const std::byte> data = {};
    std::span<const int> fds = {};
    std::uint32_t reply_bytes = 0;
    const region* maps = nullptr;  // what a map is about
  };

  // user_client.cc: asking
  [[nodiscard]] result<> admit() const noexcept;
  [[nodiscard]] result<ticket> ask(const question& asked) noexcept;
  [[nodiscard]] result<> check_access(std::uint32_t index, std::uint64_t offset,
                                      std::size_t bytes) const noexcept;
  [[nodiscard]] result<> send_irq_run(operation& under, std::uint32_t index, std::uint32_t start,
                                      std::span<const int> run) noexcept;
  [[nodiscard]] result<ticket> send_irq_trigger(const irq_vectors& which) noexcept;
  void flush() noexcept;
  [[nodiscard]] result<> send_all() noexcept;
  void forget_map(const operation& ended) noexcept;
  void lose(error what, std::string attempt, std::string hint);

  // user_client_messages.cc: hearing
  [[nodiscard]] bool receive_messages() noexcept;
  void handle_message();
  void handle_reply(const vfio_user::header& head, std::span<const std::byte> payload);
  [[nodiscard]] result<std::span<const std::byte>> reply_data(
      const operation& asked, std::span<const std::byte> payload) const noexcept;
  void handle_command(const vfio_user::header& head, std::span<const std::byte> payload);
  [[nodiscard]] int serve_dma_read(const vfio_user::header& head,
                                   std::span<const std::byte> payload) noexcept;
  [[nodiscard]] int serve_dma_write(const vfio_user::header& head,
                                    std::span<const std::byte> payload) noexcept;
  void violation(const char* what);

  // user_client_bringup.cc: what is asked before `ready`
  void continue_bring_up();
  void ask_next();
  [[nodiscard]] result<> learn(const transport_reply& reply);
  [[nodiscard]] nanoseconds answer_timeout() const noexcept;
  [[nodiscard]] result<ticket> ask_version() noexcept;
  [[nodiscard]] result<> learn_version(std::span<const std::byte> reply);
  [[nodiscard]] result<ticket> ask_device_info() noexcept;
  [[nodiscard]] result<> learn_device_info(std::span<const std::byte> reply);
  [[nodiscard]] result<ticket> ask_region_info() noexcept;
  [[nodiscard]] result<> learn_region_info(std::span<const std::byte> reply);
  [[nodiscard]] result<ticket> ask_irq_info() noexcept;
  [[nodiscard]] result<> learn_irq_info(std::span<const std::byte> reply);

  client_options options_;
  std::unique_ptr<vfio_user::channel> channel_;
  vfio_user::message_reader reader_;
  vfio_user::outbox outbox_;
  operation_table operations_;
  bool message_waits_ = false;  // the reader's message could not be answered yet: no room

  transport_state state_ = transport_state::connecting;
  failure reason_;
  std::size_t step_ = 0;         // of the bring-up
  std::uint32_t step_item_ = 0;  // region or interrupt that is asked about
  std::optional<ticket> asked_;

  device_info info_;
  std::array<region_info, regions_max> regions_;
  std::array<unique_fd, regions_max> region_fds_;
  std::array<irq_info, irqs_max> irqs_;
  region_info absent_region_;
  irq_info absent_irq_;

  std::size_t message_fds_max_ = 1;  // that the peer takes
  std::uint32_t transfer_bytes_ = transfer_bytes_max;
  domain_limits limits_;
  dma_maps maps_;
  std::vector<std::span<std::byte>> mapped_areas_;  // whole pages; at most ranges_max
  std::optional<sigbus_guard> guard_;               // covers them; made with the first
};

}  // namespace runnel::vfio
