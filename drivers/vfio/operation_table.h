#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "drivers/block.h"
#include "drivers/vfio/transport.h"
#include "mempool/base/clock.h"
#include "mempool/base/error.h"
#include "mempool/base/units.h"

namespace runnel::vfio {

/// Requests sent to a peer whose replies are matched by message id. A place is free again when its
/// result was handed out *and* every reply it is owed has arrived: so a reply that comes after the
/// deadline is recognised, and its id is never in use twice.
///
/// @context one thread; allocates at construction only
class operation_table {
 public:
  static constexpr std::size_t capacity = device_transport::operations_max;
  static constexpr std::size_t data_bytes_max = device_transport::transfer_bytes_max;

  /// One request under way.
  struct operation {
    ticket id{};
    std::uint16_t command = 0;      // the reply must name the same
    std::uint16_t replies_due = 0;  // messages of this request that the peer has not answered
    std::uint32_t reply_bytes = 0;  // most payload of a reply
    iova first{};                   // of a map: what to forget when it is refused
    std::uint64_t length = 0;
  };

  operation_table();

  /// @param replies  messages to be sent under this id, each of which is answered once
  /// @return         the operation; null when all places are taken
  [[nodiscard]] operation* start(std::uint16_t command, std::uint32_t reply_bytes,
                                 std::uint16_t replies = 1) noexcept;
  /// Takes back a start: nothing was sent.
  void withdraw(operation& which) noexcept;
  /// The message id of an operation on the wire.
  [[nodiscard]] static std::uint16_t message_id(ticket which) noexcept {
    return static_cast<std::uint16_t>(which);
  }
  /// The operation that waits for a reply with this id; null when there is none.
  [[nodiscard]] operation* waiting_for(std::uint16_t message_id) noexcept;

  /// One reply has arrived. The first error of several replies wins.
  void reply(operation& which, error status, std::span<const std::byte> data = {}) noexcept;
  /// Nothing more will arrive: ends everything that is under way.
  void end_all(error status) noexcept;
  /// Gives new operations their deadline and ends those whose time is over.
  /// @return the earliest deadline
  [[nodiscard]] instant apply_deadlines(instant now, nanoseconds timeout) noexcept;

  /// @pre (of these three) `which` was started here and not yet taken or abandoned
  [[nodiscard]] const operation& at(ticket which) noexcept { return owned(which); }
  [[nodiscard]] std::optional<transport_reply> take(ticket which) noexcept;
  void abandon(ticket which) noexcept;

 private:
  enum class outcome_state : std::uint8_t { delivered, awaited, ready };

  struct place : operation {
    outcome_state outcome = outcome_state::delivered;
    error status;
    std::uint32_t data_bytes = 0;
    instant deadline = never;  // `never` until the first apply_deadlines
  };

  [[nodiscard]] place& owned(ticket which) noexcept;
  [[nodiscard]] std::span<std::byte> data_of(const place& which) const noexcept;

  std::array<place, capacity> places_;
  std::unique_ptr<std::byte[]> data_;  // data_bytes_max for each place
  std::uint32_t generation_ = 0;       // upper bits of tickets; never 0, so no ticket is 0
};

}  // namespace runnel::vfio
