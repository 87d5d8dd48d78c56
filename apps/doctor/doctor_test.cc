// Goal: what is found is told whole, to people and to programs, and says which ways are left.
// Method: machines of files; the JSON is read back.

#include "apps/doctor/doctor.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <string>
#include <vector>

#include "apps/doctor/machine_for_tests.h"

namespace runnel::doctor {
namespace {

using nlohmann::json;

json told(const healthy_machine& machine) {
  return json::parse(to_json(examine(machine.here(), running_structures(machine.files()))));
}

std::vector<std::string> ways_that_work(const healthy_machine& machine) {
  std::vector<std::string> names;
  for (const interface& each : list_interfaces(machine.here())) {
    if (each.works) {
      names.emplace_back(each.name);
    } else {
      EXPECT_NE(each.why, "") << each.name;
    }
  }
  return names;
}

TEST(Doctor, EachCheckIsThereOnceAndHasARemedyUnlessItIsOk) {
  healthy_machine machine;
  const std::vector<std::string> ids{
      "pci",       "iommu",         "address_width", "interrupt_remapping", "vfio_module",
      "iommufd",   "device_driver", "group_viable",  "device_access",       "memlock",
      "hugepages", "io_uring",      "cpuset"};
  const auto expect_all = [&ids, &machine] {
    std::vector<std::string> there;
    const json all = told(machine);
    for (const json& each : all["checks"]) {
      there.push_back(each["id"]);
      EXPECT_EQ(each["remedy"] == "", each["status"] == "ok") << each;
      EXPECT_EQ(each["cause"].get<std::string>().find('\n'), std::string::npos);
    }
    EXPECT_EQ(there, ids);
  };
  expect_all();
  machine.system.memlock_bytes = 0;
  machine.system.io_uring = fail(errc::os, ENOSYS);
  for (const char* path : {"/sys", "/dev", "/proc"}) {
    machine.remove(path);
    expect_all();
  }
}

TEST(Doctor, AMachineIsFitUnlessACheckHasFailed) {
  healthy_machine machine;
  machine.set_pages("2048", 0, 0);  // a warning
  EXPECT_TRUE(examine(machine.here(), {}).is_fit());
  machine.system.memlock_bytes = 0;
  EXPECT_FALSE(examine(machine.here(), {}).is_fit());
}

TEST(Doctor, WaysThatNeedNoDeviceAreAlwaysLeft) {
  healthy_machine machine;
  const std::vector<std::string> soft{"vfio-user", "file", "ram", "null"};
  std::vector<std::string> all{"cdev", "group", "compat"};
  all.insert(all.end(), soft.begin(), soft.end());
  EXPECT_EQ(ways_that_work(machine), all);
  machine.remove("/dev/iommu");
  EXPECT_EQ(ways_that_work(machine)[0], "group");
  machine.file("/proc/interrupts", "none\n");
  EXPECT_EQ(ways_that_work(machine), soft);
  machine.file("/sys/module/vfio/parameters/enable_unsafe_noiommu_mode", "Y\n");
  EXPECT_EQ(ways_that_work(machine)[0], "noiommu");
  machine.remove("/sys/bus/pci/drivers/vfio-pci");
  EXPECT_EQ(ways_that_work(machine), soft);
}

TEST(Doctor, TheWayThatEachDeviceWouldGetIsToldAndWhy) {
  healthy_machine machine;
  machine.add("0000:02:00.0", {.group = 4});
  machine.add("0000:03:00.0", {.vendor = "lies", .group = 5});
  const json devices = told(machine)["devices"];
  ASSERT_EQ(devices.size(), 3U);
  EXPECT_EQ(devices[0]["address"], pci::test_device);
  EXPECT_EQ(devices[0]["driver"], "vfio-pci");
  EXPECT_EQ(devices[0]["transport"], "cdev");
  EXPECT_EQ(devices[0]["node"], "/dev/vfio/devices/vfio0");
  EXPECT_EQ(devices[1]["transport"], "none");
  EXPECT_EQ(devices[1]["why"], "it is bound to nvme; `runnel bind 0000:02:00.0`");
  EXPECT_NE(devices[2]["why"].get<std::string>().find("0000:03:00.0/vendor"), std::string::npos);
}

TEST(Doctor, PeopleGetALineForEachCheckWithItsRemedy) {
  healthy_machine machine;
  machine.system.memlock_bytes = 0;
  const diagnosis found = examine(machine.here(), running_structures(machine.files()));
  const std::string text = to_text(found);
  EXPECT_NE(text.find("\n  failed   memlock "), std::string::npos) << text;
  EXPECT_NE(text.find("; remedy: `ulimit -S -l 65536`\n"), std::string::npos);
  EXPECT_NE(text.find("\n  cdev     0000:01:00.0  "), std::string::npos);
  EXPECT_NE(text.find("\n  table    vfio_device "), std::string::npos);
  EXPECT_NE(text.find("there is no /sys/kernel/btf/vmlinux"), std::string::npos);
  const std::size_t sections = 5;  // the last with a line of its own
  EXPECT_EQ(static_cast<std::size_t>(std::ranges::count(text, '\n')),
            sections + found.checks.size() + found.interfaces.size() + found.devices.size() +
                found.structures.size());
}

}  // namespace
}  // namespace runnel::doctor
