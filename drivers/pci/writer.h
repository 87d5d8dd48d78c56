#pragma once

#include <string_view>

#include "drivers/pci/file_tree.h"
#include "mempool/base/clock.h"

namespace runnel::pci {

/// Where the writes of a binding go: to the kernel, to the terminal (`--dry-run`) or to a test.
/// Paths as in `file_tree`.
class writer {
 public:
  virtual ~writer() = default;
  /// @error os: `write` would be refused
  [[nodiscard]] virtual result<> may_write(std::string_view path) = 0;
  /// One write to a file of the kernel.
  /// @error os: what the kernel answered; timed_out: nothing, it may still do it
  [[nodiscard]] virtual result<> write(std::string_view path, std::string_view text) = 0;
  /// A file of ours, whole or not at all; its folder is made when it is not there.
  [[nodiscard]] virtual result<> keep(std::string_view path, std::string_view text) = 0;
  virtual void forget(std::string_view path) = 0;
};

/// The real one.
class system_writer final : public writer {
 public:
  /// @param limit  how long the kernel may take for one write: taking a device from a driver waits
  ///               until nobody uses it, and cannot be called off
  system_writer(const file_tree& files, nanoseconds limit) : files_{files}, limit_{limit} {}

  [[nodiscard]] result<> may_write(std::string_view path) override;
  [[nodiscard]] result<> write(std::string_view path, std::string_view text) override;
  [[nodiscard]] result<> keep(std::string_view path, std::string_view text) override;
  void forget(std::string_view path) override;

 private:
  const file_tree& files_;
  nanoseconds limit_;
};

}  // namespace runnel::pci
