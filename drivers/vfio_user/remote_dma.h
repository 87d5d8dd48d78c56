#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "drivers/block.h"
#include "drivers/vfio_user/outbox.h"
#include "drivers/vfio_user/protocol.h"
#include "mempool/base/clock.h"
#include "mempool/base/error.h"
#include "mempool/base/units.h"

namespace runnel::vfio_user {

/// Client memory reached by messages, for clients that share none: one DMA_READ or DMA_WRITE at a
/// time. A state machine without a channel: the server decides when it may speak.
class remote_dma {
 public:
  /// @param bytes  borrowed until `take` answers
  /// @error queue_full (one is under way, or its result was not taken), invalid (no bytes)
  [[nodiscard]] result<ticket> start_read(iova first, std::span<std::byte> bytes) noexcept;
  [[nodiscard]] result<ticket> start_write(iova first, std::span<const std::byte> bytes) noexcept;

  /// The result, once; empty while it is under way.
  [[nodiscard]] std::optional<result<>> take(ticket which) noexcept;

  /// Queues the waiting command if there is one, and room for it; else it waits for the next time.
  /// @param deadline  for its reply
  void send(outbox& to, instant deadline) noexcept;

  /// A reply of the client. @error protocol (not asked for, or not what was asked for)
  [[nodiscard]] result<> receive(const header& head, std::span<const std::byte> payload) noexcept;

  /// Ends what is under way: the client is gone.
  void fail_pending(error why) noexcept;

  /// Free for the next client. A result of the last one that nobody took is lost.
  void forget() noexcept { stage_ = stage::free; }

  /// Gives the client more time: it was us who kept it waiting.
  void postpone(instant deadline) noexcept { deadline_ = deadline; }

  /// When the client must have replied; `never` when it owes nothing.
  [[nodiscard]] instant deadline() const noexcept { return deadline_; }

 private:
  enum class stage : std::uint8_t { free, waiting, sent, done };

  [[nodiscard]] result<ticket> start(command what, iova first, std::size_t count) noexcept;
  void finish(result<> status) noexcept;

  stage stage_ = stage::free;
  command what_{};
  dma_access_payload range_;
  std::span<std::byte> read_into_;
  std::span<const std::byte> write_from_;
  result<> status_;
  instant deadline_ = never;
  std::uint32_t last_ticket_ = 0;
  std::uint16_t message_id_ = 0;
};

}  // namespace runnel::vfio_user
