#include "apps/doctor/machine.h"

#include <fmt/format.h>
#include <liburing.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>

#include "drivers/vfio/syscalls.h"

namespace runnel::doctor {
namespace {

result<> ask_for_a_ring() {
  io_uring ring{};
  const int refused = io_uring_queue_init(1, &ring, 0);
  if (refused != 0) {
    return fail(errc::os, static_cast<std::uint32_t>(-refused));
  }
  io_uring_queue_exit(&ring);
  return {};
}

/// Files write a name with either sign, the kernel with one.
std::string module_name(std::string_view file) {
  std::string name{file.substr(0, file.find('.'))};
  std::ranges::replace(name, '-', '_');
  return name;
}

std::uint64_t hard_memlock_limit() {
  rlimit limit{};
  const bool bounded = getrlimit(RLIMIT_MEMLOCK, &limit) == 0 && limit.rlim_max != RLIM_INFINITY;
  return bounded ? limit.rlim_max : ~std::uint64_t{0};
}

}  // namespace

machine this_machine() {
  return {.files = pci::file_tree{},
          .is_root = geteuid() == 0,
          .memlock_bytes = vfio::real_syscalls().memlock_limit(),
          .memlock_bytes_max = hard_memlock_limit(),
          .io_uring = ask_for_a_ring()};
}

std::string as_root(const machine& here, std::string_view command) {
  return fmt::format("`{}{}`", here.is_root ? "" : "sudo ", command);
}

std::string as_root_write(const machine& here, std::string_view word, std::string_view path) {
  return fmt::format("`echo {} | {}tee {}`", word, here.is_root ? "" : "sudo ", path);
}

std::string kernel_release(const pci::file_tree& files) {
  return files.text("/proc/sys/kernel/osrelease").value_or("unknown");
}

std::string module_remedy(const machine& here, std::string_view module, std::string_view option) {
  const std::string folder = "/lib/modules/" + kernel_release(here.files);
  const std::string wanted = module_name(module);
  bool installed = false;
  const bool told = here.files.each_line(folder + "/modules.dep", [&](std::string_view line) {
    const std::string_view path = line.substr(0, line.find(':'));
    installed = installed || module_name(path.substr(path.rfind('/') + 1)) == wanted;
  });
  if (installed) {
    return as_root(here, fmt::format("modprobe {}", module));
  }
  const std::string kernel = fmt::format("a kernel that is built with {}", option);
  return told ? kernel
              : fmt::format(
                    "there is no {} here: {} where the modules of this kernel are, as "
                    "outside of a container, or {}",
                    folder, as_root(here, fmt::format("modprobe {}", module)), kernel);
}

std::string status_field(const pci::file_tree& files, std::string_view name) {
  constexpr std::string_view blanks = " \t";
  std::string found;
  files.each_line("/proc/self/status", [&](std::string_view line) {
    if (line.starts_with(name) && line.substr(name.size()).starts_with(':')) {
      line.remove_prefix(name.size() + 1);
      const std::size_t first = line.find_first_not_of(blanks);
      found = first == std::string_view::npos ? "" : line.substr(first);
      found.resize(found.find_last_not_of(blanks) + 1);
    }
  });
  return found;
}

}  // namespace runnel::doctor
