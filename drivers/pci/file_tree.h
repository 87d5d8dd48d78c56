#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "mempool/base/error.h"

namespace runnel::pci {

/// The files in which the kernel tells of the machine: /sys, /proc and /dev, below a root that is
/// another folder in tests. Paths begin with a slash. What is read is bounded in length.
/// @context control plane; opens files, allocates
class file_tree {
 public:
  static constexpr std::size_t text_bytes_max = 4096;  // no file of sysfs gives more
  static constexpr std::size_t line_bytes_max = 8192;

  explicit file_tree(std::string root = {}) : root_{std::move(root)} {}

  /// The path to hand to the system.
  [[nodiscard]] std::string real(std::string_view path) const;

  /// A short file, without the newline at its end.
  /// @error os; protocol: it is longer than text_bytes_max or not plain text
  [[nodiscard]] result<std::string> text(std::string_view path) const;
  /// Calls `take` for each line, of which what exceeds line_bytes_max is left out.
  /// @return false: there is no such file
  bool each_line(std::string_view path, const std::function<void(std::string_view)>& take) const;
  /// Where a symbolic link leads, as it is written in it.
  [[nodiscard]] std::optional<std::string> link(std::string_view path) const;
  /// The last part of that: how sysfs names drivers and groups.
  [[nodiscard]] std::optional<std::string> link_name(std::string_view path) const;
  /// What is in a folder, sorted; nothing when it is not there.
  [[nodiscard]] std::vector<std::string> names(std::string_view folder) const;
  [[nodiscard]] bool exists(std::string_view path) const;
  /// Whether this process may read and write it.
  [[nodiscard]] bool may_open(std::string_view path) const;

 private:
  std::string root_;
};

/// Whether a path leads through a folder of that name: "a/b/c" through "b".
[[nodiscard]] bool leads_through(std::string_view path, std::string_view folder) noexcept;

}  // namespace runnel::pci
