#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <span>

#include "drivers/vfio_user/channel.h"
#include "drivers/vfio_user/protocol.h"

namespace runnel::vfio_user {

/// Messages on their way to a peer that may be slow: a bounded buffer in front of a channel. Each
/// message is offered to the channel whole and alone, because peers treat a header that arrives in
/// two pieces as an error; what a full socket leaves over follows later.
///
/// @context one core; allocates only for messages with descriptors
class outbox {
 public:
  /// @param bytes_max  room for this many bytes of messages, at least one of the largest
  explicit outbox(std::size_t bytes_max);

  /// Queues one message. Descriptors are duplicated.
  /// @pre `head.size` counts the header, `fixed` and `data`
  /// @error queue_full (flush, then retry), os (out of descriptors); nothing was queued
  [[nodiscard]] result<> push(const header& head, std::span<const std::byte> fixed = {},
                              std::span<const std::byte> data = {},
                              std::span<const int> fds = {}) noexcept;

  /// Room for a payload to be filled in place and then queued by `commit`. Stays where it is until
  /// the next `reserve` or `push`; empty when there is no room.
  /// @pre payload_bytes > 0
  [[nodiscard]] std::span<std::byte> reserve(std::size_t payload_bytes) noexcept;

  /// Queues the reserved payload behind `head`, or as much of its front as `head.size` says.
  /// @pre reserve gave room for it
  /// @error os (out of descriptors); nothing was queued
  [[nodiscard]] result<> commit(const header& head, std::span<const int> fds = {}) noexcept;

  /// Sends until all is sent or the channel takes no more. @error device_gone, os
  [[nodiscard]] result<> flush(channel& to) noexcept;

  /// Takes back every message of which nothing was sent; the rest of one that was begun stays.
  void take_back() noexcept;

  [[nodiscard]] bool empty() const noexcept { return first_ == last_; }
  /// Bytes the channel has taken so far: grows as long as the peer reads.
  [[nodiscard]] std::uint64_t bytes_sent() const noexcept { return bytes_sent_; }

 private:
  struct parcel {
    std::uint64_t at = 0;  // value of bytes_sent_ when its message's first byte is next
    fd_list fds;
  };

  std::unique_ptr<std::byte[]> buffer_;
  std::size_t bytes_max_;
  std::size_t first_ = 0;  // bytes [first_, last_) of the buffer wait
  std::size_t last_ = 0;
  std::size_t message_left_ = 0;  // unsent bytes of a message whose front is sent
  std::uint64_t bytes_sent_ = 0;
  std::deque<parcel> parcels_;  // descriptors of the waiting messages that have any
};

}  // namespace runnel::vfio_user
