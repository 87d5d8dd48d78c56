#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>

#include "mempool/base/error.h"
#include "mempool/base/unique_fd.h"

namespace runnel::vfio_user {

/// Most file descriptors one message carries, both ways. QEMU refuses servers that say more.
inline constexpr std::size_t message_fds_max = 16;

/// File descriptors that arrived with bytes; owned.
struct fd_list {
  std::array<unique_fd, message_fds_max> fds;
  std::size_t count = 0;
  bool incomplete = false;  // this process has no room for more descriptors: some were lost

  void clear() noexcept {
    for (std::size_t i = 0; i < count; ++i) {
      fds[i].reset();
    }
    count = 0;
    incomplete = false;
  }
};

/// A byte stream that carries file descriptors with bytes: an AF_UNIX socket, or memory in tests.
/// Neither call waits.
class channel {
 public:
  virtual ~channel() = default;

  /// Bytes taken, from the front; 0: no room now. `fds` (borrowed) go with the first byte, so they
  /// are sent when the result is > 0. @error device_gone (peer closed), os
  [[nodiscard]] virtual result<std::size_t> send(std::span<const std::byte> bytes,
                                                 std::span<const int> fds) noexcept = 0;

  /// Bytes received; 0: nothing yet. Descriptors that came with them are appended to `fds`, or it
  /// is marked as incomplete; those over its capacity are closed and `protocol` is reported.
  /// @error device_gone (end of stream), os, protocol
  [[nodiscard]] virtual result<std::size_t> receive(std::span<std::byte> into,
                                                    fd_list& fds) noexcept = 0;

  /// Ends the stream for both ends. `event_fd` stays the same number and is readable no more (out
  /// of descriptors: for ever), so that whoever waits for it may forget it in its own time; nothing
  /// else may be called.
  virtual void hang_up() noexcept = 0;

  /// For the waiter: readable when `receive` has something; -1 for a channel in memory.
  [[nodiscard]] virtual int event_fd() const noexcept = 0;
};

/// @error os (the hint says what is wrong with PATH: absent, not a socket, nobody listens)
[[nodiscard]] outcome<std::unique_ptr<channel>> connect_socket(const char* path);

/// Two ends in one process. Every send is cut by `seed` into odd pieces, so that short reads and
/// writes are the rule; descriptors are duplicated.
[[nodiscard]] std::pair<std::unique_ptr<channel>, std::unique_ptr<channel>> memory_channel_pair(
    std::uint64_t seed);

}  // namespace runnel::vfio_user
