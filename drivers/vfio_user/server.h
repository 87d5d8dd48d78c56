#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "drivers/vfio_user/channel.h"
#include "drivers/vfio_user/client_memory.h"
#include "drivers/vfio_user/device_model.h"
#include "drivers/vfio_user/message_reader.h"
#include "drivers/vfio_user/outbox.h"
#include "drivers/vfio_user/protocol.h"
#include "drivers/vfio_user/remote_dma.h"
#include "mempool/base/clock.h"
#include "mempool/base/error.h"

namespace runnel::vfio_user {

struct server_options {
  std::string name = "vfio-user";                  // "vfio-user:PATH"; the object of failures
  unsigned messages_max = 32;                      // handled in one `advance`
  unsigned unmaps_max = 64;                        // regions taken out in one `advance`
  std::size_t maps_max = client_memory::maps_max;  // of one client, see there
  bus_space* bus = nullptr;                        // for clients' memory, see there
  /// For a client to introduce itself, to finish a message it began, to make room for a reply.
  nanoseconds client_deadline = std::chrono::seconds{10};
  /// For a client to answer our DMA_READ or DMA_WRITE.
  nanoseconds dma_deadline = std::chrono::seconds{5};
};

enum class server_state : std::uint8_t {
  idle,       // `attach` the next client
  connected,  // a client is served
  closing,    // the client is gone, the model still uses its memory
};

/// Serves one device model to one client at a time. Requests are handled strictly in order: while
/// the model owes an answer, or the client does not read its replies, nothing more is read.
///
/// @context one core. No call waits; work per `advance` is bounded
class server {
 public:
  /// @error no_memory (too many servers in this process)
  [[nodiscard]] static outcome<std::unique_ptr<server>> create(device_model& model,
                                                               server_options options);
  server(const server&) = delete;
  server& operator=(const server&) = delete;
  /// @pre state() == idle, so that the model has stopped using what is freed here
  ~server();

  /// Serves a client that has just connected. @pre state() == idle
  void attach(std::unique_ptr<channel> client);

  /// Receives, calls the model, replies. Also while `closing`.
  /// @return when to call again at the latest, unless `event_fd` is readable before
  instant advance(instant now);

  /// The answer to a request that the model answered with `later`; 0 or an errno. It leaves at the
  /// next `advance`. Ids of clients that are gone are ignored.
  void reply(request_id id, int errno_value) noexcept;

  /// Ends the client, as if it had left. @pre state() == connected; not called by the model from
  /// within one of its operations
  void disconnect(failure reason);

  [[nodiscard]] server_state state() const noexcept { return state_; }
  /// The client has introduced itself, and the model is open.
  [[nodiscard]] bool connected() const noexcept {
    return state_ == server_state::connected && connection_->introduced;
  }
  /// Why the last client ended; `device_gone` when it left by itself. Empty before.
  [[nodiscard]] const std::optional<failure>& last_end() const noexcept { return last_end_; }
  /// Readable when `advance` has work, and also when the client sends more while the model owes an
  /// answer; -1 without a client, and for channels in memory.
  [[nodiscard]] int event_fd() const noexcept;

  /// Reads or writes client memory that is not mapped here by asking the client. `bytes` stay
  /// borrowed until `take` answers. The message leaves when no request of the client is pending:
  /// it may not listen before. One at a time.
  /// @error queue_full, device_gone (nobody connected), invalid (empty, or over the client's limit)
  [[nodiscard]] result<ticket> dma_read(iova first, std::span<std::byte> bytes) noexcept;
  [[nodiscard]] result<ticket> dma_write(iova first, std::span<const std::byte> bytes) noexcept;
  /// The result, once; empty while it is under way. @error os (the client's errno), device_gone
  [[nodiscard]] std::optional<result<>> take(ticket which) noexcept { return dma_.take(which); }

 private:
  /// The request being handled and the reply that grows for it in the outbox.
  struct request {
    header head;
    std::uint64_t number = 0;  // its request_id
    bool open = false;         // the model still owes the answer, or more of an unmap is to be done
    std::optional<int> late_answer;           // what `reply` said
    std::size_t reply_bytes = 0;              // payload of the reply so far
    int reply_fd = -1;                        // borrowed from the layout
    const region* region_at_stake = nullptr;  // the model is asked about its map or unmap
    iova unmap_first{};                       // the range of an unmap, last byte included
    iova unmap_last{};
  };
  /// Everything that dies with a client, once the model has let go of it.
  struct connection {
    std::unique_ptr<channel> link;  // null once the client is gone
    message_reader reader;
    outbox replies{message_bytes_max};
    capabilities limits;
    request current;
    bool introduced = false;
    instant deadline = never;  // when the client must have done what it owes
  };

  server(device_model& model, server_options options, client_memory memory);

  // server.cc: the life of a client
  void serve(instant now);
  [[nodiscard]] bool receive_one();
  void watch_deadlines(instant now, bool progress);
  void end(error what, std::string hint);
  void close();
  [[nodiscard]] instant next_call(instant now) const noexcept;

  // server.cc: one request
  void begin_request();
  void continue_request();
  void answer_request(answer given);
  [[nodiscard]] request_id current_id() const noexcept {
    return request_id{connection_->current.number};
  }
  /// Room for the payload of the current reply.
  [[nodiscard]] std::span<std::byte> reply_room(std::size_t bytes) noexcept;

  // server_requests.cc: what each command does
  [[nodiscard]] answer dispatch(std::span<const std::byte> payload);
  [[nodiscard]] answer resume();  // the model has answered, or an unmap goes on
  [[nodiscard]] answer on_version(std::span<const std::byte> payload);
  [[nodiscard]] answer on_dma_map(std::span<const std::byte> payload);
  [[nodiscard]] answer on_dma_unmap(std::span<const std::byte> payload);
  [[nodiscard]] answer settle_map(answer given);
  [[nodiscard]] answer settle_unmap(answer given);
  [[nodiscard]] answer unmap_some();
  [[nodiscard]] answer on_device_info(std::span<const std::byte> payload);
  [[nodiscard]] answer on_region_info(std::span<const std::byte> payload);
  [[nodiscard]] answer on_irq_info(std::span<const std::byte> payload);
  [[nodiscard]] answer on_set_irqs(std::span<const std::byte> payload);
  [[nodiscard]] answer set_triggers(std::uint32_t index, std::uint32_t start,
                                    std::span<unique_fd> eventfds);
  [[nodiscard]] answer on_region_read(std::span<const std::byte> payload);
  [[nodiscard]] answer on_region_write(std::span<const std::byte> payload);
  [[nodiscard]] answer on_reset(std::span<const std::byte> payload);
  [[nodiscard]] answer on_feature(std::span<const std::byte> payload);

  device_model& model_;
  const device_layout& layout_;
  server_options options_;
  client_memory memory_;
  remote_dma dma_;
  std::unique_ptr<connection> connection_;
  server_state state_ = server_state::idle;
  bool more_ = false;  // the last `advance` stopped at its budget
  std::uint64_t last_request_ = 0;
  std::optional<failure> last_end_;
};

}  // namespace runnel::vfio_user
