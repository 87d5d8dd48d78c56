#pragma once

#include <cstddef>
#include <memory>
#include <span>

#include "drivers/vfio_user/channel.h"
#include "drivers/vfio_user/protocol.h"

namespace runnel::vfio_user {

/// Puts messages together from a byte stream that arrives in pieces. The header is read alone, so
/// that descriptors arrive with the message they belong to.
///
/// @context one core; no allocation after construction
class message_reader {
 public:
  message_reader();

  /// Takes what is there. True: one whole message, readable by the accessors until the next call,
  /// which begins another one (and closes descriptors nobody took). False: not yet.
  /// @error device_gone, os, protocol (see parse_header)
  [[nodiscard]] result<bool> receive(channel& from) noexcept;

  [[nodiscard]] const header& head() const noexcept { return head_; }
  [[nodiscard]] std::span<std::byte> payload() noexcept {
    return {buffer_.get() + sizeof(header), head_.payload_bytes()};
  }
  [[nodiscard]] fd_list& fds() noexcept { return fds_; }

  /// Part of a message is here: its sender owes us the rest within a deadline.
  [[nodiscard]] bool halfway() const noexcept { return !whole_ && received_ != 0; }

 private:
  std::unique_ptr<std::byte[]> buffer_;  // message_bytes_max
  std::size_t received_ = 0;             // bytes of the message so far
  bool whole_ = false;                   // the message has been handed out
  header head_;                          // valid once received_ >= sizeof(header)
  fd_list fds_;
};

}  // namespace runnel::vfio_user
