#include "drivers/pci/block_uses.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <string>
#include <string_view>

#include "mempool/base/unique_fd.h"

namespace runnel::pci {
namespace {

constexpr std::string_view blocks_folder = "/sys/class/block";

/// Takes the next word off the front of a line.
std::string_view take_word(std::string_view& line) noexcept {
  line.remove_prefix(std::min(line.find_first_not_of(" \t"), line.size()));
  const std::string_view word = line.substr(0, line.find_first_of(" \t"));
  line.remove_prefix(word.size());
  return word;
}

std::string_view last_part(std::string_view path) noexcept {
  return path.substr(path.rfind('/') + 1);
}

/// The disks of one PCI device with their partitions, and what is built on them.
class disk_finder {
 public:
  disk_finder(const file_tree& files, const address& where)
      : files_{files}, device_{to_string(where)} {}

  std::vector<std::string> find() {
    const std::vector<std::string> heads = multipath_heads();
    for (const std::string& name : files_.names(blocks_folder)) {
      const std::string path = files_.link(block(name)).value_or("");
      if (leads_through(path, device_) ||
          std::ranges::any_of(heads, [&path](auto& head) { return leads_through(path, head); })) {
        add(name);
      }
    }
    return std::move(found_);
  }

  /// Uses that consist in being a part of another disk.
  std::vector<use>& as_parts() noexcept { return as_parts_; }

 private:
  static std::string block(const std::string& name) {
    return std::string{blocks_folder} + "/" + name;
  }

  /// An NVMe disk that several controllers may lead to hangs below their subsystem, not below any
  /// of their PCI devices.
  std::vector<std::string> multipath_heads() const {
    std::vector<std::string> heads;
    constexpr std::string_view subsystems = "/sys/class/nvme-subsystem/";
    for (const std::string& controller : files_.names("/sys/class/nvme")) {
      const auto path = files_.link("/sys/class/nvme/" + controller);
      if (!path || !leads_through(*path, device_)) {
        continue;
      }
      for (const std::string& subsystem : files_.names(subsystems)) {
        if (files_.exists(fmt::format("{}{}/{}", subsystems, subsystem, controller))) {
          heads.push_back(subsystem);
        }
      }
    }
    return heads;
  }

  /// Recursion ends, since a disk is entered once.
  void add(const std::string& name) {
    if (std::ranges::find(found_, name) != found_.end()) {
      return;
    }
    found_.push_back(name);
    for (const std::string& holder : files_.names(block(name) + "/holders")) {
      as_parts_.push_back({fmt::format("{} is part of {}", name, holder),
                           fmt::format("take {} out of it first", name)});
      add(holder);
    }
  }

  const file_tree& files_;
  std::string device_;
  std::vector<std::string> found_;
  std::vector<use> as_parts_;
};

using names = std::vector<std::string>;

/// Mounts by number, or by name where a file system has a number of its own (btrfs).
void add_mounts(const file_tree& files, const names& disks, std::vector<use>& found) {
  names numbers;
  for (const std::string& disk : disks) {
    numbers.push_back(files.text(std::string{blocks_folder} + "/" + disk + "/dev").value_or(""));
  }
  files.each_line("/proc/self/mountinfo", [&](std::string_view line) {
    take_word(line);  // id
    take_word(line);  // its parent's
    const std::string_view number = take_word(line);
    take_word(line);  // root within the file system
    const std::string place{take_word(line)};
    const std::size_t dash = line.find(" - ");
    std::string_view source = dash == std::string_view::npos ? "" : line.substr(dash + 3);
    take_word(source);  // type
    source = take_word(source);
    for (std::size_t i = 0; i < disks.size(); ++i) {
      if ((!numbers[i].empty() && numbers[i] == number) ||
          (source.starts_with("/dev/") && last_part(source) == disks[i])) {
        found.push_back({disks[i] + " is mounted at " + place, "`umount " + place + "` first"});
        return;
      }
    }
  });
}

void add_swaps(const file_tree& files, const names& disks, std::vector<use>& found) {
  files.each_line("/proc/swaps", [&](std::string_view line) {
    const std::string_view path = take_word(line);
    if (std::ranges::find(disks, last_part(path)) != disks.end()) {
      found.push_back({std::string{last_part(path)} + " is swapped to",
                       "`swapoff " + std::string{path} + "` first"});
    }
  });
}

/// File systems of several disks tell one of them in the list of mounts.
void add_btrfs(const file_tree& files, const names& disks, std::vector<use>& found) {
  for (const std::string& system : files.names("/sys/fs/btrfs")) {
    for (const std::string& disk : files.names("/sys/fs/btrfs/" + system + "/devices")) {
      if (std::ranges::find(disks, disk) != disks.end()) {
        found.push_back({fmt::format("{} is part of the mounted btrfs {}", disk, system),
                         "unmount that first"});
      }
    }
  }
}

/// Whoever uses a disk for itself has claimed it: other mount namespaces, ZFS, programs.
void add_claims(const file_tree& files, const names& disks, std::vector<use>& found) {
  for (const std::string& disk : disks) {
    const std::string path = files.real("/dev/" + disk);
    struct stat status{};
    if (stat(path.c_str(), &status) != 0 || !S_ISBLK(status.st_mode)) {
      continue;
    }
    const unique_fd fd{open(path.c_str(), O_RDONLY | O_EXCL | O_CLOEXEC | O_NONBLOCK)};
    if (!fd && errno == EBUSY) {
      found.push_back({disk + " is held by the kernel or a program", "end its use first"});
    }
  }
}

}  // namespace

std::vector<use> block_uses(const file_tree& files, const address& where) {
  disk_finder finder{files, where};
  const names disks = finder.find();
  std::vector<use> found;
  add_mounts(files, disks, found);
  add_swaps(files, disks, found);
  add_btrfs(files, disks, found);
  std::ranges::move(finder.as_parts(), std::back_inserter(found));
  if (found.empty()) {  // else it would say no more than is known
    add_claims(files, disks, found);
  }
  return found;
}

}  // namespace runnel::pci
