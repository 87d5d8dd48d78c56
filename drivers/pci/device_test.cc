// Goal: a device is what sysfs says of it, and files that say something else are named, whatever is
// in them. Method: a machine of files; rows that spoil one of them.

#include "drivers/pci/device.h"

#include <gtest/gtest.h>

#include "drivers/pci/machine_for_tests.h"

namespace runnel::pci {
namespace {

std::string in_sysfs(const std::string& file) {
  return test_folder + file;
}

TEST(PciDevice, IsReadWithAllThatSysfsTells) {
  machine_for_tests machine;
  machine.add(test_device);
  machine.add("0000:01:00.1", {.driver = "e1000e"});
  machine.add("0000:00:1c.0", {.class_code = "0x060400", .driver = "pcieport"});
  machine.file(in_sysfs("numa_node"), "1\n");
  machine.file(in_sysfs("driver_override"), "vfio-pci\n");
  machine.link(in_sysfs("iommu"), "/sys/devices/virtual/iommu/dmar0");
  machine.folder(in_sysfs("vfio-dev/vfio7"));
  machine.link(in_sysfs("physfn"), "/sys/bus/pci/devices/0000:01:00.2");
  machine.link(in_sysfs("virtfn0"), "/sys/bus/pci/devices/0000:01:00.3");
  machine.file(in_sysfs("resource"),
               "0x00000000febd0000 0x00000000febd3fff 0x0000000000140204\n"
               "0x0000000000000000 0x0000000000000000 0x0000000000000000\n"
               "0x000000000000c000 0x000000000000c01f 0x0000000000040101\n");
  const device found = machine.read(test_device);
  EXPECT_EQ(found.ids.class_code, 0x010802U);
  EXPECT_EQ(found.ids.vendor, 0x1b36);
  EXPECT_EQ(found.ids.subsystem_device, 0x1100);
  EXPECT_EQ(found.driver, "nvme");
  EXPECT_EQ(found.driver_override, "vfio-pci");
  EXPECT_EQ(found.iommu, "dmar0");
  EXPECT_EQ(found.group, 3U);
  EXPECT_FALSE(found.no_iommu);
  EXPECT_EQ(found.members.size(), 3U);
  ASSERT_EQ(obstacles(found).size(), 1U);  // bridges are none
  EXPECT_EQ(obstacles(found)[0].name, "0000:01:00.1");
  EXPECT_EQ(obstacles(found)[0].driver, "e1000e");
  EXPECT_EQ(found.numa_node, 1U);
  EXPECT_EQ(found.vfio_name, "vfio7");
  EXPECT_EQ(found.resources[0].bytes, 0x4000U);
  EXPECT_TRUE(found.resources[0].is_memory());
  EXPECT_EQ(found.resources[1].bytes, 0U);
  EXPECT_EQ(found.resources[2].bytes, 0x20U);
  EXPECT_FALSE(found.resources[2].is_memory());
  EXPECT_EQ(found.physical_function, parse_address("0000:01:00.2"));
  EXPECT_EQ(found.virtual_functions, std::vector{*parse_address("0000:01:00.3")});
}

TEST(PciDevice, WhatAKernelDoesNotTellIsAbsent) {
  machine_for_tests machine;
  machine.add(test_device, {.driver = "", .group = -1});
  machine.remove(in_sysfs("numa_node"));
  machine.remove(in_sysfs("driver_override"));
  const device found = machine.read(test_device);
  EXPECT_EQ(found.driver, "");
  EXPECT_EQ(found.driver_override, "");
  EXPECT_FALSE(found.group);
  EXPECT_FALSE(found.numa_node);
  EXPECT_TRUE(found.members.empty());
}

TEST(PciDevice, AGroupThatVfioMadeUpIsNoGuard) {
  machine_for_tests machine;
  machine.add(test_device);
  machine.file("/sys/kernel/iommu_groups/3/name", "vfio-noiommu\n");
  EXPECT_TRUE(machine.read(test_device).no_iommu);
}

TEST(PciDevice, AFileThatSaysSomethingElseIsNamed) {
  struct row {
    const char* file;
    std::string text;
  };
  for (const row& each : {
           row{"class", "0x01080\x01\n"},
           row{"class", "0x1010802\n"},
           row{"class", ""},
           row{"vendor", "0x1b361\n"},
           row{"vendor", "-1\n"},
           row{"device", "0x10 0x10\n"},
           row{"device", std::string(5000, '1')},
           row{"numa_node", "many\n"},
           row{"numa_node", "-2\n"},
           row{"resource", "0x0 0x0\n"},
           row{"resource", "0x10 0x0 0x200\n"},
           row{"resource", "0x0  0x0 0x0\n"},
           row{"resource", "0x0 0x0 0x0 0x0\n"},
           row{"driver_override", std::string(1, '\0')},
       }) {
    machine_for_tests machine;
    machine.add(test_device);
    machine.file(in_sysfs(each.file), each.text);
    const auto found = read_device(machine.files(), *parse_address(test_device));
    ASSERT_FALSE(found) << each.file << " " << each.text;
    EXPECT_EQ(found.error().what.code, errc::protocol) << each.file;
    EXPECT_NE(found.error().hint.find(each.file), std::string::npos) << found.error().hint;
  }
}

TEST(PciDevice, ALinkThatLeadsElsewhereIsNamed) {
  for (const char* link : {"iommu_group", "physfn", "virtfn0"}) {
    machine_for_tests machine;
    machine.add(test_device);
    machine.link(in_sysfs(link), "/sys/nowhere");
    const auto found = read_device(machine.files(), *parse_address(test_device));
    ASSERT_FALSE(found) << link;
    EXPECT_NE(found.error().hint.find(link), std::string::npos) << found.error().hint;
  }
}

TEST(PciDevice, OneThatVanishesWhileItIsReadIsNotFound) {
  machine_for_tests machine;
  machine.add(test_device);
  machine.remove(test_folder);
  const auto found = read_device(machine.files(), *parse_address(test_device));
  ASSERT_FALSE(found);
  EXPECT_EQ(found.error().what.code, errc::not_found);
  EXPECT_NE(found.error().message().find("pci:0000:01:00.0"), std::string::npos);
}

TEST(PciDevice, AreListedInOrderAndWithoutWhatIsNone) {
  machine_for_tests machine;
  EXPECT_TRUE(list_devices(machine.files()).empty());
  machine.add("10000:00:00.0");
  machine.add("0000:ff:00.0");
  machine.add("0000:01:00.0");
  machine.folder("/sys/bus/pci/devices/strange");
  const auto found = list_devices(machine.files());
  ASSERT_EQ(found.size(), 3U);
  EXPECT_EQ(to_string(found[0]), "0000:01:00.0");
  EXPECT_EQ(to_string(found[2]), "10000:00:00.0");
}

TEST(FileTree, LinesThatAreTooLongLoseTheirEndOnly) {
  machine_for_tests machine;
  machine.file("/lines", "a\n\n" + std::string(20'000, 'x') + "\nlast");
  std::vector<std::string> lines;
  EXPECT_TRUE(machine.files().each_line(
      "/lines", [&lines](std::string_view line) { lines.emplace_back(line); }));
  EXPECT_EQ(lines, (std::vector<std::string>{"a", "", std::string(file_tree::line_bytes_max, 'x'),
                                             "last"}));
  EXPECT_FALSE(machine.files().each_line("/none", [](std::string_view) {}));
}

TEST(FileTree, AFolderIsOnThePathAsAWhole) {
  EXPECT_TRUE(leads_through("../pci0000:00/0000:00:02.0/block/a", "0000:00:02.0"));
  EXPECT_FALSE(leads_through("../pci0000:00/0000:00:02.01/block/a", "0000:00:02.0"));
  EXPECT_FALSE(leads_through("../a/b", "b"));
  EXPECT_FALSE(leads_through("", ""));
}

}  // namespace
}  // namespace runnel::pci
