// Goal: the way that is told for a device is one that can be gone, and the reason is the reason.
// Method: machines of files that offer more and less.

#include "drivers/pci/serving.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "drivers/pci/machine_for_tests.h"

namespace runnel::pci {
namespace {

/// A device that is vfio-pci's, with every node there can be.
class Serving : public testing::Test {
 protected:
  Serving() {
    machine.add(test_device, {.driver = "vfio-pci"});
    machine.folder("/sys/bus/pci/devices/0000:01:00.0/vfio-dev/vfio0");
    machine.file("/dev/vfio/3", "");
    machine.file("/dev/vfio/devices/vfio0", "");
    machine.file("/dev/iommu", "");
  }

  [[nodiscard]] serving found() const {
    return find_way(machine.files(), machine.read(test_device));
  }
  void expect_none(const std::string& why) const {
    const serving way = found();
    EXPECT_EQ(to_string(way.how), "none");
    EXPECT_EQ(way.node, "");
    EXPECT_NE(way.why.find(why), std::string::npos) << way.why;
  }

  machine_for_tests machine;
};

TEST_F(Serving, ACharacterDeviceIsPreferred) {
  EXPECT_EQ(to_string(found().how), "cdev");
  EXPECT_EQ(found().node, "/dev/vfio/devices/vfio0");
}

TEST_F(Serving, WhereThereIsNoCharacterDeviceTheGroupServesAndTheReasonIsSaid) {
  machine.remove("/dev/vfio/devices");
  EXPECT_EQ(to_string(found().how), "group");
  EXPECT_EQ(found().node, "/dev/vfio/3");
  EXPECT_EQ(found().why, "not by its node: there is no /dev/vfio/devices/vfio0");
  machine.remove("/dev/iommu");
  EXPECT_EQ(to_string(found().how), "group");
  EXPECT_EQ(found().why, "not by its node: there is no /dev/iommu");
  machine.remove("/dev/vfio/3");
  expect_none("/dev/vfio/3");
}

TEST_F(Serving, AWayThatIsAskedForIsTheOnlyOne) {
  const auto by = [this](way wanted) {
    return find_way(machine.files(), machine.read(test_device), wanted);
  };
  EXPECT_EQ(by(way::cdev).node, "/dev/vfio/devices/vfio0");
  EXPECT_EQ(by(way::group).node, "/dev/vfio/3");
  EXPECT_EQ(to_string(by(way::compat).how), "compat");
  EXPECT_EQ(by(way::noiommu).why, "it is behind an IOMMU");
  machine.remove("/dev/iommu");
  for (const way wanted : {way::cdev, way::compat}) {
    EXPECT_EQ(to_string(by(wanted).how), "none");
    EXPECT_EQ(by(wanted).why, "there is no /dev/iommu");
  }
  EXPECT_EQ(to_string(by(way::group).how), "group");
}

TEST_F(Serving, AGroupWithAMemberElsewhereIsNotViable) {
  machine.add("0000:01:00.1", {.driver = "e1000e"});
  expect_none("0000:01:00.1 is bound to e1000e; `runnel bind 0000:01:00.1`");
}

TEST_F(Serving, WithoutAnIommuItIsOnlyForThoseWhoAskForIt) {
  machine.file("/sys/kernel/iommu_groups/3/name", "vfio-noiommu\n");
  expect_none("/dev/vfio/noiommu-3");
  machine.file("/dev/vfio/noiommu-3", "");
  EXPECT_EQ(to_string(found().how), "noiommu");
}

TEST_F(Serving, ADeviceThatIsNotBoundIsToldHowToOrWhyNot) {
  machine.add("0000:02:00.0", {.driver = "nvme", .group = 4});
  machine.add("0000:00:01.0", {.class_code = "0x060400", .driver = "pcieport", .group = 5});
  const auto why = [this](const char* device) {
    return find_way(machine.files(), machine.read(device)).why;
  };
  EXPECT_EQ(why("0000:02:00.0"), "it is bound to nvme; `runnel bind 0000:02:00.0`");
  EXPECT_EQ(why("0000:00:01.0"),
            "it is bound to pcieport; a bridge stays with the kernel; bind what is behind it");
  machine.add_interface("0000:02:00.0", "eth0");
  machine.file("/proc/net/route", "eth0 00000000\n");
  EXPECT_EQ(
      why("0000:02:00.0"),
      "it is bound to nvme; eth0 has an address or a route; `ip address flush dev eth0` first");
}

/// Root may open all; so these tests are nobody meanwhile.
class nobody {
 public:
  nobody() {
    if (was_ == 0) {
      EXPECT_EQ(seteuid(65534), 0);
    }
  }
  ~nobody() { EXPECT_EQ(seteuid(was_), 0); }
  nobody(const nobody&) = delete;
  nobody& operator=(const nobody&) = delete;

 private:
  uid_t was_ = geteuid();
};

TEST_F(Serving, NodesThatThisUserMayNotOpenAreNoWay) {
  chmod(machine.files().real("/").c_str(), 0755);
  const auto allow = [this](const char* node, mode_t mode) {
    EXPECT_EQ(chmod(machine.files().real(node).c_str(), mode), 0);
  };
  allow("/dev/vfio/devices/vfio0", 0666);
  allow("/dev/vfio/3", 0666);
  allow("/dev/iommu", 0);
  {
    const nobody user;
    EXPECT_EQ(to_string(found().how), "group");
    EXPECT_NE(found().why.find("this user may not open /dev/iommu"), std::string::npos);
  }
  allow("/dev/vfio/3", 0);
  const nobody user;
  expect_none("`sudo chown $USER /dev/vfio/3`");
}

}  // namespace
}  // namespace runnel::pci
