#pragma once

#include <sys/types.h>

#include <memory>
#include <string>
#include <string_view>

#include "drivers/vfio_user/channel.h"
#include "mempool/base/error.h"
#include "mempool/base/unique_fd.h"

namespace runnel::vfio_user {

/// A UNIX socket that clients connect to; removes its file at the end.
/// @context one core; no call waits
class listener {
 public:
  /// Replaces the file of a server that died, never one that is being served.
  /// @error invalid (path), busy (already served), os; the object is "vfio-user:PATH"
  [[nodiscard]] static outcome<listener> bind(std::string_view path);

  listener(listener&&) noexcept = default;
  listener& operator=(listener&&) = delete;
  listener(const listener&) = delete;
  listener& operator=(const listener&) = delete;
  ~listener();

  /// The next client; empty when nobody waits. @error os
  [[nodiscard]] result<std::unique_ptr<channel>> accept() noexcept;

  [[nodiscard]] const std::string& path() const noexcept { return path_; }
  /// Readable when a client waits.
  [[nodiscard]] int event_fd() const noexcept { return socket_.get(); }

 private:
  listener(unique_fd socket, std::string path);

  unique_fd socket_;
  std::string path_;
  dev_t device_ = 0;  // of the file we made, so that we never remove another one
  ino_t inode_ = 0;
};

}  // namespace runnel::vfio_user
