// Goal: devices get the names of their own entries and no other's, from files of any content.
// Method: excerpts as tables; a file on disk.

#include "drivers/pci/names.h"

#include <gtest/gtest.h>

#include "drivers/pci/machine_for_tests.h"

namespace runnel::pci {
namespace {

constexpr std::string_view excerpt =
    "# Vendors\n"
    "1af4  Red Hat, Inc.\n"
    "\t1041  Virtio 1.0 network device\n"
    "1b36  Red Hat, Inc. too\n"
    "\t0001  Bridge\n"
    "\t\t1af4 1100  Of somebody else\n"
    "\t0010  NVM Express Controller\n"
    "\t\t1af4 1100  QEMU Virtual Machine\n"
    "\t\t1af4 1101  Another machine\n"
    "\n"
    "C 01  Mass storage controller\n"
    "\t08  Non-Volatile memory controller\n"
    "\t\t02  NVM Express\n"
    "C 02  Network controller\n"
    "\t08  Infiniband\n";

constexpr identity nvme{0x010802, 0x1b36, 0x0010, 0x1af4, 0x1100};

device_names look_up(std::string_view text, const identity& wanted) {
  name_search search{{&wanted, 1}};
  while (!text.empty()) {
    search.take(text.substr(0, text.find('\n')));
    text.remove_prefix(std::min(text.find('\n'), text.size() - 1) + 1);
  }
  return search.found().front();
}

TEST(PciNames, AreThoseOfTheDevicesOwnEntries) {
  const device_names names = look_up(excerpt, nvme);
  EXPECT_EQ(names.kind, "Non-Volatile memory controller");
  EXPECT_EQ(names.vendor, "Red Hat, Inc. too");
  EXPECT_EQ(names.device, "NVM Express Controller");
  EXPECT_EQ(names.subsystem, "QEMU Virtual Machine");
}

TEST(PciNames, WhatIsNotListedHasNoneOrThatOfItsClass) {
  identity other = nvme;
  other.device = 0x1041;  // listed, but of another vendor
  other.class_code = 0x017700;
  const device_names names = look_up(excerpt, other);
  EXPECT_EQ(names.kind, "Mass storage controller");
  EXPECT_EQ(names.vendor, "Red Hat, Inc. too");
  EXPECT_EQ(names.device, "");
  EXPECT_EQ(names.subsystem, "");
}

TEST(PciNames, LinesThatAreNoneAreSkipped) {
  for (const char* text :
       {"1b36\n\t0010\n", "1b3  x\n\t0010  y\n", "zzzz  x\n\t0010  y\n", "\t0010  orphan\n",
        "\t\t1af4 1100  orphan\n", "C\n", "C 1\n", "\n\n", "\t\n\t\t\n"}) {
    const device_names names = look_up(text, nvme);
    EXPECT_EQ(names.kind + names.device + names.subsystem, "") << text;
  }
}

TEST(PciNames, CannotUpsetATerminal) {
  EXPECT_EQ(look_up("1b36  a\x1b[2Jb\x7f\n", nvme).vendor, "a?[2Jb?");
  EXPECT_EQ(look_up("1b36  " + std::string(5000, 'x'), nvme).vendor, std::string(200, 'x'));
}

TEST(PciNames, ComeFromTheFileOfTheMachineOrAreEmpty) {
  machine_for_tests machine;
  const std::array wanted{nvme, identity{}};
  EXPECT_EQ(find_names(machine.files(), wanted)[0].vendor, "");
  machine.file("/usr/share/misc/pci.ids", "# " + std::string(20'000, '-') + "\n" +
                                              std::string{excerpt.substr(0, excerpt.size() - 1)});
  const auto names = find_names(machine.files(), wanted);
  ASSERT_EQ(names.size(), 2U);
  EXPECT_EQ(names[0].device, "NVM Express Controller");
  EXPECT_EQ(names[1].vendor, "");
}

}  // namespace
}  // namespace runnel::pci
