#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "drivers/pci/file_tree.h"

namespace runnel::doctor {

/// What is looked at: the kernel's files, and answers of the system that no file has. Tests make
/// up both.
struct machine {
  pci::file_tree files;
  bool is_root = false;
  std::uint64_t memlock_bytes = 0;      // that this process may lock now; ~0: any number
  std::uint64_t memlock_bytes_max = 0;  // to which it may raise that without root; ~0: any number
  result<> io_uring;                    // of asking for a ring
};

/// The one that this process runs on. Asks the kernel for a ring, which is gone again.
[[nodiscard]] machine this_machine();

/// A command that needs root, in backquotes, as this user has to type it.
[[nodiscard]] std::string as_root(const machine& here, std::string_view command);
/// A command by which root writes a word into a file.
[[nodiscard]] std::string as_root_write(const machine& here, std::string_view word,
                                        std::string_view path);

/// "6.12.95+deb12-amd64"; "unknown" where /proc tells nothing.
[[nodiscard]] std::string kernel_release(const pci::file_tree& files);

/// How to get a module of the kernel: to load it when it is installed, else which kernel has it.
/// @param option  that makes it, such as CONFIG_VFIO_PCI
[[nodiscard]] std::string module_remedy(const machine& here, std::string_view module,
                                        std::string_view option);

/// What follows "name:" in /proc/self/status, without blanks around; empty: nothing does.
[[nodiscard]] std::string status_field(const pci::file_tree& files, std::string_view name);

}  // namespace runnel::doctor
