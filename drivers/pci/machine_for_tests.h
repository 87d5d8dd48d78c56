#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

#include "drivers/pci/device.h"
#include "drivers/pci/file_tree.h"

namespace runnel::pci {

// The device that tests are about.
inline constexpr const char* test_device = "0000:01:00.0";
inline constexpr const char* test_folder = "/sys/bus/pci/devices/0000:01:00.0/";

/// What a device of a test machine is.
struct made_device {
  const char* class_code = "0x010802";
  const char* vendor = "0x1b36";
  const char* device = "0x0010";
  const char* driver = "nvme";  // empty: none
  int group = 3;                // -1: no IOMMU
};

/// A machine made of files in a folder of its own, which goes with it.
class machine_for_tests {
 public:
  machine_for_tests() {
    std::string pattern = testing::TempDir() + "machine-XXXXXX";
    root_ = mkdtemp(pattern.data());
    tree_ = file_tree{root_};
  }
  ~machine_for_tests() { std::filesystem::remove_all(root_); }
  machine_for_tests(const machine_for_tests&) = delete;
  machine_for_tests& operator=(const machine_for_tests&) = delete;

  [[nodiscard]] const file_tree& files() const noexcept { return tree_; }

  void folder(const std::string& path) { std::filesystem::create_directories(root_ + path); }
  void file(const std::string& path, std::string_view text) {
    folder(path.substr(0, path.rfind('/')));
    std::ofstream{root_ + path} << text;
  }
  /// @param target  from the root, which need not be there
  void link(const std::string& path, const std::string& target) {
    folder(path.substr(0, path.rfind('/')));
    std::filesystem::remove(root_ + path);
    std::filesystem::create_symlink(root_ + target, root_ + path);
  }
  /// A link as it is written, wherever that leads.
  void raw_link(const std::string& path, const std::string& target) {
    folder(path.substr(0, path.rfind('/')));
    std::filesystem::create_symlink(target, root_ + path);
  }
  void remove(const std::string& path) { std::filesystem::remove_all(root_ + path); }
  [[nodiscard]] std::string text(const std::string& path) const {
    return tree_.text(path).value_or("(none)");
  }

  /// As the kernel tells of a device.
  void add(const std::string& where, const made_device& made = {}) {
    const std::string folder = "/sys/bus/pci/devices/" + where + "/";
    file(folder + "class", made.class_code + std::string{"\n"});
    file(folder + "vendor", made.vendor + std::string{"\n"});
    file(folder + "device", made.device + std::string{"\n"});
    file(folder + "subsystem_vendor", "0x1af4\n");
    file(folder + "subsystem_device", "0x1100\n");
    file(folder + "driver_override", "(null)\n");
    file(folder + "numa_node", "-1\n");
    if (*made.driver != '\0') {
      add_driver(made.driver);
      link(folder + "driver", "/sys/bus/pci/drivers/" + std::string{made.driver});
    }
    if (made.group >= 0) {
      const std::string group = "/sys/kernel/iommu_groups/" + std::to_string(made.group);
      link(folder + "iommu_group", group);
      link(group + "/devices/" + where, "/sys/bus/pci/devices/" + where);
    }
  }
  void add_driver(const std::string& name) {
    file("/sys/bus/pci/drivers/" + name + "/bind", "");
    file("/sys/bus/pci/drivers/" + name + "/unbind", "");
    file("/sys/bus/pci/drivers_probe", "");
  }
  /// A disk of a device or, with `parent`, a partition of that disk.
  void add_disk(const std::string& where, const std::string& name, const std::string& number,
                const std::string& parent = {}) {
    const std::string path = "/sys/devices/pci0000:00/" + where + "/block/" +
                             (parent.empty() ? "" : parent + "/") + name;
    file(path + "/dev", number + "\n");
    link("/sys/class/block/" + name, path);
  }
  void add_interface(const std::string& where, const std::string& name) {
    const std::string path = "/sys/devices/pci0000:00/" + where + "/net/" + name;
    folder(path);
    link("/sys/class/net/" + name, path);
  }

  /// @pre it is there
  [[nodiscard]] device read(const std::string& where) const {
    auto found = read_device(tree_, *parse_address(where));
    EXPECT_TRUE(found) << (found ? "" : found.error().message());
    return found ? *found : device{};
  }

 private:
  std::string root_;
  file_tree tree_;
};

}  // namespace runnel::pci
