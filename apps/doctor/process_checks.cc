#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <optional>
#include <string>

#include "apps/doctor/checks.h"

namespace runnel::doctor {
namespace {

constexpr std::string_view ring_switch = "/proc/sys/kernel/io_uring_disabled";
constexpr std::string_view cgroups_folder = "/sys/fs/cgroup";

bool is_any_of(error what, std::initializer_list<int> numbers) {
  return what.code == errc::os && std::ranges::any_of(numbers, [what](int number) {
           return what.detail == static_cast<std::uint32_t>(number);
         });
}

/// How many a list of the kernel's, such as "0-2,5", has. 0: it is none.
unsigned count_cpus(std::string_view list) {
  unsigned count = 0;
  while (!list.empty()) {
    const std::string_view part = list.substr(0, list.find(','));
    list.remove_prefix(std::min(part.size() + 1, list.size()));
    const char* const end = part.data() + part.size();
    unsigned first = 0;
    const auto [stop, problem] = std::from_chars(part.data(), end, first);
    unsigned last = first;
    if (problem == std::errc{} && stop != end) {
      std::from_chars(stop + 1, end, last);
    }
    count += problem == std::errc{} && last >= first ? last - first + 1 : 0;
  }
  return count;
}

/// A tree of groups of processes that the kernel has, and the place of this process in it.
struct cgroup_place {
  std::string top;        // folder of the tree
  std::string_view file;  // that tells which CPUs a group has
  std::string path;       // of the group of this process, below the top: "/a/b", or nothing
};

std::optional<cgroup_place> read_cgroup_place(const pci::file_tree& files) {
  std::optional<cgroup_place> old;
  std::optional<cgroup_place> unified;
  files.each_line("/proc/self/cgroup", [&](std::string_view line) {
    const std::string_view rest = line.substr(std::min(line.find('/'), line.size()));
    const std::string path{rest == "/" ? "" : rest};
    if (line.find(":cpuset:/") != std::string_view::npos) {
      old = {fmt::format("{}/cpuset", cgroups_folder), "/cpuset.effective_cpus", path};
    } else if (line.starts_with("0::/")) {
      unified = {std::string{cgroups_folder}, "/cpuset.cpus.effective", path};
    }
  });
  return old ? old : unified;  // where both are, the old one has the CPUs
}

/// A group that limits this process.
struct cgroup {
  std::string folder;
  bool is_container = false;  // there is none above it, as far as this process sees
};

/// The highest group above this process that has those CPUs and no others: who has to get more.
/// Groups that leave CPUs to those above them have no file of them.
std::optional<cgroup> limiting_cgroup(const pci::file_tree& files, std::string_view cpus) {
  std::optional<cgroup_place> place = read_cgroup_place(files);
  std::optional<cgroup> found;
  while (place) {
    const std::string folder = place->top + place->path;
    const auto its = files.text(fmt::format("{}{}", folder, place->file));
    if (its && *its != cpus) {
      break;
    }
    const bool is_top = place->path.empty();
    if (its) {
      found = cgroup{.folder = folder, .is_container = is_top};
    }
    if (is_top) {
      break;
    }
    place->path.resize(place->path.rfind('/'));
  }
  return found;
}

}  // namespace

check check_io_uring(const machine& here) {
  constexpr std::string_view id = "io_uring";
  if (here.io_uring) {
    return good(id, "the kernel gives rings");
  }
  const error why = here.io_uring.error();
  const auto refused = [&](const std::string& by, std::string remedy) {
    return doubtful(id, fmt::format("{} ({}); file: works by pread and pwrite", by, to_string(why)),
                    std::move(remedy));
  };
  const auto disabled = here.files.text(ring_switch);
  if (is_any_of(why, {EPERM}) && disabled && *disabled != "0") {
    return refused(fmt::format("kernel.io_uring_disabled is {}", *disabled),
                   as_root(here, "sysctl -w kernel.io_uring_disabled=0"));
  }
  if (is_any_of(why, {EPERM, EACCES, ENOSYS}) && status_field(here.files, "Seccomp") == "2") {
    return refused("a seccomp filter refuses io_uring, as those of containers do",
                   "start the container with a filter that lets io_uring_setup, io_uring_enter and "
                   "io_uring_register pass, or with none: `docker run --security-opt "
                   "seccomp=unconfined`");
  }
  if (is_any_of(why, {ENOSYS})) {
    return refused("the kernel has no io_uring",
                   "a kernel of 5.1 or later that is built with CONFIG_IO_URING");
  }
  if (is_any_of(why, {ENOMEM})) {
    return refused("there is no memory for a ring, or this user has locked too much",
                   "see memlock");
  }
  return refused("io_uring is refused",
                 "a policy of SELinux or AppArmor that allows it; `dmesg` "
                 "may say which forbids it");
}

check check_cpuset(const machine& here) {
  constexpr std::string_view id = "cpuset";
  const std::string allowed = status_field(here.files, "Cpus_allowed_list");
  const std::string online = here.files.text("/sys/devices/system/cpu/online").value_or("");
  if (count_cpus(allowed) == 0 || count_cpus(allowed) >= count_cpus(online)) {
    return good(id, fmt::format("this process may run on CPUs {}: all that there are",
                                allowed.empty() ? online : allowed));
  }
  const std::string cause = fmt::format("this process may run on CPUs {} of {}", allowed, online);
  const auto group = limiting_cgroup(here.files, allowed);
  if (!group) {
    return doubtful(id, cause + ": its affinity says so",
                    fmt::format("`taskset -p -c {} $$`", online));
  }
  if (group->is_container) {
    return doubtful(id, cause + ": a container has no more",
                    fmt::format("start the container with `--cpuset-cpus={}`", online));
  }
  return doubtful(id, fmt::format("{}: {} has no more", cause, group->folder),
                  as_root_write(here, online, group->folder + "/cpuset.cpus"));
}

}  // namespace runnel::doctor
