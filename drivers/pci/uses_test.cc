// Goal: a device is taken from nobody who uses it, and who that is can be read. Method: machines
// of files in which one thing is in use, and the same ones with nothing.

#include "drivers/pci/uses.h"

#include <gtest/gtest.h>

#include <functional>

#include "drivers/pci/machine_for_tests.h"

namespace runnel::pci {
namespace {

constexpr const char* other_device = "0000:02:00.0";

/// A machine with two devices, each with a disk, a partition and an interface.
class UsesOf : public testing::Test {
 protected:
  UsesOf() {
    machine.add(test_device);
    machine.add(other_device);
    machine.add_disk(test_device, "nvme0n1", "259:0");
    machine.add_disk(test_device, "nvme0n1p1", "259:1", "nvme0n1");
    machine.add_disk(other_device, "nvme1n1", "259:2");
    machine.add_interface(test_device, "eth0");
    machine.add_interface(other_device, "eth1");
    machine.file("/proc/self/mountinfo",
                 "21 26 0:20 / /proc rw - proc proc rw\n"
                 "26 1 259:2 / / rw - ext4 /dev/nvme1n1 rw\n");
    machine.file("/proc/swaps", "Filename Type Size Used Priority\n");
    machine.file("/proc/net/route", "Iface Destination\neth1 00000000 010200C0\n");
    machine.file("/proc/net/ipv6_route",
                 "fe800000000000000000000000000000 40 0 00 0 0 0 0 0 eth0\n"
                 "ff000000000000000000000000000000 08 0 00 0 0 0 0 0 eth0\n");
    machine.file("/proc/net/if_inet6", "fe800000000000000000000000000001 04 40 20 80 eth0\n");
  }

  [[nodiscard]] std::string told() const {
    std::string all;
    for (const use& each : uses_of(machine.files(), machine.read(test_device))) {
      EXPECT_NE(each.remedy.find("first"), std::string::npos);
      all += each.what + "|";
    }
    return all;
  }

  machine_for_tests machine;
};

TEST_F(UsesOf, ADeviceThatNobodyUsesThereAreNone) {
  EXPECT_EQ(told(), "");
}

TEST_F(UsesOf, ADiskAreMountsSwapAndWhatIsBuiltOnIt) {
  struct row {
    const char* path;
    const char* text;
    const char* expected;
  };
  for (const row& each : {
           row{"/proc/self/mountinfo", "30 1 259:1 / /data rw - ext4 /dev/root rw\n",
               "nvme0n1p1 is mounted at /data|"},
           row{"/proc/self/mountinfo", "30 1 0:44 / /data rw,a shared:1 - btrfs /dev/nvme0n1 rw\n",
               "nvme0n1 is mounted at /data|"},
           row{"/proc/swaps", "Filename Type\n/dev/nvme0n1p1 partition 1 0 -2\n",
               "nvme0n1p1 is swapped to|"},
           row{"/sys/fs/btrfs/1234/devices/nvme0n1p1/size", "",
               "nvme0n1p1 is part of the mounted btrfs 1234|"},
           row{"/sys/class/block/nvme0n1p1/holders/dm-0/size", "", "nvme0n1p1 is part of dm-0|"},
       }) {
    machine.file(each.path, each.text);
    EXPECT_EQ(told(), each.expected);
    for (const char* path : {each.path, "/sys/fs/btrfs", "/sys/class/block/nvme0n1p1/holders"}) {
      machine.remove(path);
    }
  }
}

TEST_F(UsesOf, DisksBuiltOnDisksOfADeviceCountHoweverDeep) {
  machine.folder("/sys/class/block/nvme0n1p1/holders/md0");
  machine.folder("/sys/class/block/md0/holders/dm-3");
  machine.folder("/sys/class/block/dm-3/holders/md0");  // which no kernel says
  machine.file("/sys/class/block/dm-3/dev", "253:3\n");
  machine.file("/proc/self/mountinfo", "30 1 253:3 / /srv rw - xfs /dev/mapper/a rw\n");
  machine.file("/proc/swaps", "Filename Type\n/dev/dm-3 partition 1 0 -2\n");
  const std::string all = told();
  EXPECT_TRUE(all.starts_with("dm-3 is mounted at /srv|dm-3 is swapped to|")) << all;
}

TEST_F(UsesOf, ADiskWithSeveralPathsBelongsToTheControllersOfItsSubsystem) {
  machine.remove("/sys/class/block/nvme0n1");
  machine.file("/sys/devices/virtual/nvme-subsystem/nvme-subsys0/nvme0n1/dev", "259:7\n");
  machine.link("/sys/class/block/nvme0n1",
               "/sys/devices/virtual/nvme-subsystem/nvme-subsys0/nvme0n1");
  machine.link("/sys/class/nvme/nvme0", "/sys/devices/pci0000:00/0000:01:00.0/nvme/nvme0");
  machine.folder("/sys/class/nvme-subsystem/nvme-subsys0/nvme0");
  machine.file("/proc/self/mountinfo", "30 1 259:7 / / rw - ext4 /dev/nvme0n1 rw\n");
  EXPECT_EQ(told(), "nvme0n1 is mounted at /|");
}

TEST_F(UsesOf, AnInterfaceAreAddressesRoutesAndWhatItIsPartOf) {
  struct row {
    const char* path;
    const char* text;
    const char* expected;
  };
  for (const row& each : {
           row{"/proc/net/route", "Iface Destination\neth0\t00000000\t010200C0\n",
               "eth0 has an address or a route|"},
           row{"/proc/net/ipv6_route",
               "00000000000000000000000000000000 00 0 00 0 0 0 0 0     eth0\n",
               "eth0 has an address or a route|"},
           row{"/proc/net/if_inet6", "fd000000000000000000000000000002 04 40 00 82     eth0\n",
               "eth0 has an address or a route|"},
           row{"/sys/class/net/eth0/upper_br0/mtu", "", "eth0 is part of br0|"},
       }) {
    machine.file(each.path, each.text);
    EXPECT_EQ(told(), each.expected);
    machine.remove(each.path);
  }
}

TEST_F(UsesOf, APhysicalFunctionAreItsVirtualOnes) {
  machine.link("/sys/bus/pci/devices/0000:01:00.0/virtfn0", "/sys/bus/pci/devices/0000:01:00.1");
  EXPECT_EQ(told(), "it has virtual functions, 0000:01:00.1 first|");
}

TEST_F(UsesOf, OpenNodesAreToldWithTheirProcesses) {
  machine.file("/proc/42/comm", "qemu\n");
  machine.raw_link("/proc/42/fd/5", "/dev/vfio/3");
  machine.raw_link("/proc/self/fd/5", "/dev/vfio/3");
  EXPECT_EQ(holders_of(machine.files(), "/dev/vfio/3"), std::vector<std::string>{"qemu (pid 42)"});
  EXPECT_TRUE(holders_of(machine.files(), "/dev/vfio/4").empty());
}

}  // namespace
}  // namespace runnel::pci
