// Goal: what is listed is what the machine has, for people and for programs, with or without names,
// and one strange device hides no other. Method: machines of files.

#include "apps/devices/devices.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "drivers/pci/machine_for_tests.h"

namespace runnel::devices {
namespace {

using nlohmann::json;

constexpr const char* nvme = "0000:01:00.0";

json listed(const pci::machine_for_tests& machine) {
  return json::parse(to_json(find(machine.files())));
}

TEST(Devices, AMachineWithoutPciHasNoneAndSaysSo) {
  const pci::machine_for_tests machine;
  EXPECT_EQ(to_text(find(machine.files())),
            "there are no PCI devices: the machine has no /sys/bus/pci\n");
  EXPECT_EQ(listed(machine)["pci"], false);
  EXPECT_EQ(listed(machine)["devices"], json::array());
}

TEST(Devices, ADeviceIsToldWithAllThatIsKnownOfIt) {
  pci::machine_for_tests machine;
  machine.add(nvme);
  machine.add("0000:01:00.1", {.driver = "e1000e"});
  machine.add_disk(nvme, "nvme0n1", "259:0");
  machine.file("/proc/self/mountinfo", "30 1 259:0 / /data rw - ext4 /dev/nvme0n1 rw\n");
  machine.file("/usr/share/misc/pci.ids",
               "1b36  Red Hat, Inc.\n\t0010  NVM Express Controller\n"
               "C 01  Mass storage\n\t08  NVM controller\n");
  const json told = listed(machine)["devices"][0];
  EXPECT_EQ(told["address"], nvme);
  EXPECT_EQ(told["class"], "010802");
  EXPECT_EQ(told["class_name"], "NVM controller");
  EXPECT_EQ(told["vendor_name"], "Red Hat, Inc.");
  EXPECT_EQ(told["device_name"], "NVM Express Controller");
  EXPECT_EQ(told["subsystem"], "1af4:1100");
  EXPECT_EQ(told["subsystem_name"], nullptr);
  EXPECT_EQ(told["driver"], "nvme");
  EXPECT_EQ(told["driver_override"], nullptr);
  EXPECT_EQ(told["group"], 3);
  EXPECT_EQ(told["group_members"][1], (json{{"name", "0000:01:00.1"}, {"driver", "e1000e"}}));
  EXPECT_EQ(told["uses"], json::array({"nvme0n1 is mounted at /data"}));
  EXPECT_EQ(told["transport"], "none");
  EXPECT_EQ(told["node"], nullptr);
  const std::string text = to_text(find(machine.files()));
  for (const char* part :
       {"NVM controller: Red Hat, Inc. NVM Express Controller", "mounted at /data",
        "its group has 0000:01:00.1 (e1000e) too", "`umount /data` first"}) {
    EXPECT_NE(text.find(part), std::string::npos) << part << "\n" << text;
  }
}

TEST(Devices, ABoundDeviceIsToldWithItsTransportAndNode) {
  pci::machine_for_tests machine;
  machine.add(nvme, {.driver = "vfio-pci"});
  machine.file("/dev/vfio/3", "");
  const json told = listed(machine);
  EXPECT_EQ(told["vfio_pci"], true);
  EXPECT_EQ(told["iommufd"], false);
  EXPECT_EQ(told["devices"][0]["transport"], "group");
  EXPECT_EQ(told["devices"][0]["node"], "/dev/vfio/3");
}

TEST(Devices, WithoutNamesThereAreNumbers) {
  pci::machine_for_tests machine;
  machine.add(nvme);
  EXPECT_EQ(listed(machine)["devices"][0]["class_name"], nullptr);
  EXPECT_NE(to_text(find(machine.files())).find("010802: 1b36 0010"), std::string::npos);
}

TEST(Devices, CapabilitiesAreToldToWhoMayReadThem) {
  pci::machine_for_tests machine;
  machine.add(nvme);
  std::string space(256, '\0');
  space[0x06] = 0x10;
  space[0x34] = 0x40;
  space[0x40] = 0x11;
  space[0x42] = 64;
  const std::string path = pci::folder_of(*pci::parse_address(nvme)) + "/config";
  machine.file(path, space);
  json told = listed(machine)["devices"][0];
  EXPECT_EQ(told["capabilities"], json::parse(R"([{"id":17,"offset":64}])"));
  EXPECT_EQ(told["msix_vectors"], 65);
  machine.file(path, space.substr(0, 64));
  told = listed(machine)["devices"][0];
  EXPECT_EQ(told["capabilities"], nullptr);
  EXPECT_EQ(told["msix_vectors"], nullptr);
}

TEST(Devices, OneThatCannotBeReadHidesNoOther) {
  pci::machine_for_tests machine;
  machine.add(nvme);
  machine.add("0000:00:01.0", {.vendor = "lies"});
  const listing found = find(machine.files());
  EXPECT_EQ(found.devices.size(), 1U);
  ASSERT_EQ(found.unread.size(), 1U);
  EXPECT_NE(found.unread[0].message().find("0000:00:01.0/vendor"), std::string::npos);
}

}  // namespace
}  // namespace runnel::devices
