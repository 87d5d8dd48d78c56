// Goal: each thing that a machine may lack is recognised by its own check, and what is said to be
// done about it is exactly that. Method: a healthy machine of files, from which one thing is taken.

#include "apps/doctor/checks.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <functional>
#include <string>
#include <vector>

#include "apps/doctor/doctor.h"
#include "apps/doctor/machine_for_tests.h"

namespace runnel::doctor {
namespace {

class Checks : public testing::Test {
 protected:
  /// The check is the only one that has changed, and says so.
  void expect(std::string_view id, status wanted, const std::string& cause,
              const std::string& remedy) const {
    for (const check& each : examine(machine.here(), {}).checks) {
      if (each.id != id) {
        EXPECT_EQ(to_string(each.status), "ok") << each.id << ": " << each.cause;
        continue;
      }
      EXPECT_EQ(to_string(each.status), to_string(wanted)) << each.cause;
      EXPECT_NE(each.cause.find(cause), std::string::npos) << each.cause;
      EXPECT_EQ(each.remedy, remedy);
    }
  }
  /// As above, of this check alone: what it is about is missed by others, too.
  void expect_one(const check& found, status wanted, const std::string& cause,
                  const std::string& remedy) const {
    EXPECT_EQ(to_string(found.status), to_string(wanted)) << found.cause;
    EXPECT_NE(found.cause.find(cause), std::string::npos) << found.cause;
    EXPECT_NE(found.remedy.find(remedy), std::string::npos) << found.remedy;
  }
  void remove_iommu() {
    machine.remove("/sys/kernel/iommu_groups");
    machine.remove(std::string{pci::test_folder} + "iommu_group");
    machine.remove("/sys/class/iommu");
  }

  healthy_machine machine;
};

TEST_F(Checks, AMachineThatLacksNothingIsFit) {
  const diagnosis found = examine(machine.here(), {});
  EXPECT_TRUE(found.is_fit());
  for (const check& each : found.checks) {
    EXPECT_EQ(to_string(each.status), "ok") << each.id << ": " << each.cause;
    EXPECT_NE(each.cause, "");
    EXPECT_EQ(each.remedy, "");
  }
}

TEST_F(Checks, WithoutADriverTheModuleIsLoadedWhenItIsInstalled) {
  machine.remove("/sys/bus/pci/drivers/vfio-pci");
  machine.install_module("kernel/drivers/vfio/pci/vfio-pci.ko.xz");
  const auto found = [this] { return check_vfio_module(machine.here()); };
  expect_one(found(), status::failed, "no driver vfio-pci", "`sudo modprobe vfio-pci`");
  machine.system.is_root = true;
  EXPECT_EQ(found().remedy, "`modprobe vfio-pci`");
  machine.install_module("extra/vfio_pci.ko");
  EXPECT_EQ(found().remedy, "`modprobe vfio-pci`");
  machine.install_module("kernel/drivers/vfio/pci/vfio-pci-core.ko.xz");
  EXPECT_EQ(found().remedy, "a kernel that is built with CONFIG_VFIO_PCI");
  machine.remove("/lib/modules");
  expect_one(found(), status::failed, "", "there is no /lib/modules/6.12.95+deb12-amd64 here");
}

TEST_F(Checks, ADriverAloneMapsNoMemory) {
  machine.remove("/sys/module/vfio_iommu_type1");
  machine.remove("/dev/iommu");
  machine.install_module("kernel/drivers/vfio/vfio_iommu_type1.ko");
  expect_one(check_vfio_module(machine.here()), status::failed, "nothing that maps memory",
             "`sudo modprobe vfio_iommu_type1`");
}

TEST_F(Checks, WithoutIommufdGroupsAreLeft) {
  machine.remove("/dev/iommu");
  machine.install_module("kernel/drivers/iommu/iommufd/iommufd.ko");
  expect("iommufd", status::warning, "by their groups", "`sudo modprobe iommufd`");
  machine.install_module("kernel/none.ko");
  expect_one(check_iommufd(machine.here()), status::warning, "no /dev/iommu",
             "built with CONFIG_IOMMUFD and CONFIG_VFIO_DEVICE_CDEV");
}

TEST_F(Checks, IommufdMayLackNodesOfDevices) {
  machine.remove("/sys/class/vfio-dev");
  expect("iommufd", status::warning, "no nodes of their own",
         "a kernel that is built with CONFIG_VFIO_DEVICE_CDEV, 6.6 or later");
}

TEST_F(Checks, WithoutAnIommuTheReasonIsBootWordFirmwareOrKernel) {
  remove_iommu();
  const auto expect_iommu = [this](const std::string& cause, const std::string& remedy) {
    expect_one(check_iommu(machine.here()), status::failed, cause, remedy);
  };
  expect_iommu("not switched off", "built with CONFIG_INTEL_IOMMU");
  machine.file("/proc/cmdline", "intel_iommu=on,sm_on\n");
  expect_iommu("not switched off", "built with CONFIG_INTEL_IOMMU");
  machine.file("/proc/cmdline", "quiet\n");
  expect_iommu("does not use the machine's IOMMU (VT-d)", "boot with intel_iommu=on: add it");
  for (const char* word : {"intel_iommu=off", "amd_iommu=off", "iommu=off"}) {
    machine.file("/proc/cmdline", std::string{"quiet "} + word + "\n");
    expect_iommu(std::string{"booted with "} + word, std::string{"boot without "} + word);
  }
  machine.file("/proc/cmdline", "quiet\n");
  machine.remove("/sys/firmware/acpi/tables/DMAR");
  expect_iommu("the firmware shows no IOMMU", "switch on VT-d in the firmware");
  machine.file("/proc/cpuinfo", "vendor_id\t: AuthenticAMD\nflags\t\t: fpu svm\n");
  expect_iommu("the firmware shows no IOMMU", "AMD-Vi");
  machine.file("/sys/firmware/acpi/tables/IVRS", "");
  expect_iommu("not switched off", "built with CONFIG_AMD_IOMMU");
  machine.remove("/sys/firmware/acpi/tables/IVRS");
  machine.file("/proc/cpuinfo", "vendor_id\t: AuthenticAMD\nflags\t\t: fpu hypervisor svm\n");
  expect_iommu("this virtual machine", "`-device intel-iommu,intremap=on`");
}

TEST_F(Checks, GroupsThatVfioMadeUpAreNoIommu) {
  machine.file("/sys/kernel/iommu_groups/3/name", "vfio-noiommu\n");
  EXPECT_FALSE(has_iommu(machine.files()));
  machine.folder("/sys/kernel/iommu_groups/4");
  EXPECT_TRUE(has_iommu(machine.files()));
}

TEST_F(Checks, AnIommuOf39BitsWorksAndOneThatIsNarrowerMayNot) {
  machine.set_capabilities("d2008c22260286");  // MGAW 39, SAGAW 39
  expect("address_width", status::warning, "dmar0 translates 39 bits",
         "none is needed for our memory, which is placed there; for that of others, as a virtual "
         "machine's, a machine with a wider IOMMU, in QEMU `-device intel-iommu,aw-bits=48`");
  machine.set_capabilities("d2008c222f0286");  // its registers hold 48, its page tables reach 39
  expect_one(check_address_width(machine.here()), status::warning, "39 bits", "aw-bits=48");
  machine.set_capabilities("d2008c22230286");  // MGAW 36
  expect_one(check_address_width(machine.here()), status::failed, "36 bits", "a wider IOMMU");
  for (const char* lie : {"lies", "d2008c22260286 and more", ""}) {
    machine.set_capabilities(lie);
    EXPECT_EQ(check_address_width(machine.here()).cause, "the IOMMU does not tell") << lie;
  }
}

TEST_F(Checks, WithoutRemappingOfInterruptsTheSwitchIsTold) {
  machine.file("/proc/interrupts", " 24:  0  PCI-MSI-0000:01:00.0  0-edge  vfio-msix\n");
  const std::string type1 = "/sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts";
  const std::string other = "/sys/module/iommufd/parameters/allow_unsafe_interrupts";
  const std::string rest =
      "; else switch interrupt remapping on in the firmware (QEMU: intremap=on)";
  const std::string trust = "if you trust the device, `echo 1 | sudo tee ";
  expect("interrupt_remapping", status::failed, "(EPERM)", trust + type1 + "`" + rest);
  machine.file(other, "N\n");
  expect("interrupt_remapping", status::failed, "", trust + type1 + " " + other + "`" + rest);
  machine.file(type1, "Y\n");
  expect("interrupt_remapping", status::failed, "", trust + other + "`" + rest);
  machine.file(other, "Y\n");
  EXPECT_EQ(check_interrupt_remapping(machine.here()).cause,
            "the IOMMU does not remap interrupts, and that is allowed");
  machine.remove("/sys/module/vfio_iommu_type1");
  EXPECT_EQ(to_string(check_interrupt_remapping(machine.here()).status), "ok");
  machine.remove("/sys/module/iommufd");
  expect_one(check_interrupt_remapping(machine.here()), status::failed, "(EPERM)",
             "`sudo modprobe vfio_iommu_type1 allow_unsafe_interrupts=1`" + rest);
}

TEST_F(Checks, TooFewHugePagesAreCountedAndHowManyItTakesIsTold) {
  const std::string path = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages";
  const std::string rest = ", or, when memory is in pieces by now, boot with hugepages=";
  machine.set_pages("2048", 0, 0);
  expect("hugepages", status::warning, "0 of 0 pages of 2 MiB are free",
         "`echo 32 | sudo tee " + path + "`" + rest + "32");
  machine.set_pages("2048", 40, 31);
  expect("hugepages", status::warning, "31 of 40 pages",
         "`echo 41 | sudo tee " + path + "`" + rest + "41");
  machine.set_pages("2048", 40, 32);
  EXPECT_EQ(to_string(check_hugepages(machine.here()).status), "ok");
  machine.file("/sys/kernel/mm/hugepages/hugepages-2048kB/resv_hugepages", "1\n");
  EXPECT_EQ(to_string(check_hugepages(machine.here()).status), "warning");
  machine.set_pages("1048576", 1, 1);
  EXPECT_EQ(check_hugepages(machine.here()).cause,
            "31 of 40 pages of 2 MiB are free, 1 of 1 pages of 1 GiB are free");
  machine.remove("/sys/kernel/mm/hugepages");
  expect("hugepages", status::warning, "the kernel has no huge pages",
         "a kernel that is built with CONFIG_HUGETLBFS; normal pages work, more slowly");
}

TEST_F(Checks, TooLittleMemoryThatMayBeLockedIsRaisedByWhoMay) {
  machine.system.memlock_bytes = 64 << 10;
  expect("memlock", status::failed, "64 KiB may be locked", "`ulimit -S -l 65536`");
  machine.system.memlock_bytes_max = 8 << 20;
  expect_one(check_memlock(machine.here()), status::failed, "less than the 65536 KiB",
             "`sudo prlimit --pid $$ --memlock=unlimited` for this shell; for logins, the line "
             "`* - memlock unlimited` in /etc/security/limits.conf");
  machine.system.memlock_bytes = 64 << 20;
  EXPECT_EQ(check_memlock(machine.here()).cause, "65536 KiB may be locked");
}

TEST_F(Checks, WhoeverRefusesIoUringIsNamed) {
  const auto refuse = [this](int number) {
    machine.system.io_uring = fail(errc::os, static_cast<std::uint32_t>(number));
  };
  refuse(EPERM);
  machine.file("/proc/sys/kernel/io_uring_disabled", "2\n");
  expect("io_uring", status::warning,
         "kernel.io_uring_disabled is 2 (Operation not permitted); file: works by pread",
         "`sudo sysctl -w kernel.io_uring_disabled=0`");
  machine.file("/proc/sys/kernel/io_uring_disabled", "0\n");
  for (const int number : {EPERM, ENOSYS}) {
    refuse(number);
    expect_one(check_io_uring(machine.here()), status::warning, "a seccomp filter",
               "`docker run --security-opt seccomp=unconfined`");
  }
  machine.set_status("0", "0-3");
  expect_one(check_io_uring(machine.here()), status::warning, "the kernel has no io_uring",
             "5.1 or later that is built with CONFIG_IO_URING");
  refuse(EACCES);
  expect_one(check_io_uring(machine.here()), status::warning, "io_uring is refused", "SELinux");
  refuse(ENOMEM);
  expect_one(check_io_uring(machine.here()), status::warning, "no memory for a ring", "memlock");
}

TEST_F(Checks, FewerCpusThanThereAreComeFromAContainerACgroupOrAffinity) {
  machine.set_status("2", "1,3");
  expect("cpuset", status::warning, "CPUs 1,3 of 0-3: its affinity says so",
         "`taskset -p -c 0-3 $$`");
  machine.file("/proc/self/cgroup", "0::/\n");
  machine.file("/sys/fs/cgroup/cpuset.cpus.effective", "1,3\n");
  expect("cpuset", status::warning, "CPUs 1,3 of 0-3: a container has no more",
         "start the container with `--cpuset-cpus=0-3`");
  machine.file("/sys/fs/cgroup/cpuset.cpus.effective", "0-3\n");
  expect("cpuset", status::warning, "its affinity says so", "`taskset -p -c 0-3 $$`");
  machine.file("/proc/self/cgroup", "0::/some/slice\n");
  machine.file("/sys/fs/cgroup/some/slice/cpuset.cpus.effective", "1,3\n");
  expect("cpuset", status::warning, "/sys/fs/cgroup/some/slice has no more",
         "`echo 0-3 | sudo tee /sys/fs/cgroup/some/slice/cpuset.cpus`");
  machine.remove("/sys/fs/cgroup/some/slice/cpuset.cpus.effective");  // left to the one above
  machine.file("/sys/fs/cgroup/some/cpuset.cpus.effective", "1,3\n");
  expect("cpuset", status::warning, "/sys/fs/cgroup/some has no more",
         "`echo 0-3 | sudo tee /sys/fs/cgroup/some/cpuset.cpus`");
  machine.file("/sys/fs/cgroup/some/slice/cpuset.cpus.effective", "1,3\n");
  expect("cpuset", status::warning, "/sys/fs/cgroup/some has no more",
         "`echo 0-3 | sudo tee /sys/fs/cgroup/some/cpuset.cpus`");
  machine.file("/proc/self/cgroup", "9:cpuset:/old\n0::/none\n");
  machine.file("/sys/fs/cgroup/cpuset/old/cpuset.effective_cpus", "1,3\n");
  expect("cpuset", status::warning, "/sys/fs/cgroup/cpuset/old has no more",
         "`echo 0-3 | sudo tee /sys/fs/cgroup/cpuset/old/cpuset.cpus`");
}

TEST_F(Checks, ADeviceThatTheKernelDrivesIsToldHowToTake) {
  machine.remove(std::string{pci::test_folder} + "driver");
  machine.add(pci::test_device);
  expect("device_driver", status::warning, "0000:01:00.0 is bound to nvme",
         "`sudo runnel bind 0000:01:00.0`");
  machine.add_disk(pci::test_device, "nvme0n1", "259:0");
  machine.file("/proc/self/mountinfo", "30 1 259:0 / /data rw - ext4 /dev/nvme0n1 rw\n");
  expect("device_driver", status::warning, "0000:01:00.0 is bound to nvme",
         "nvme0n1 is mounted at /data; `umount /data` first; then `sudo runnel bind "
         "0000:01:00.0`");
  machine.add("0000:02:00.0", {.group = 4});
  expect("device_driver", status::warning, "0000:02:00.0 is bound to nvme",
         "`sudo runnel bind 0000:02:00.0`");
}

TEST_F(Checks, AGroupThatIsNotViableIsToldWhomElseToTake) {
  machine.add("0000:01:00.1", {.driver = "e1000e"});
  machine.add("0000:01:00.2", {.driver = "xhci_hcd"});
  expect("group_viable", status::failed,
         "group 3 of 0000:01:00.0 is not viable: 0000:01:00.1 is bound to e1000e",
         "`sudo runnel bind 0000:01:00.1 0000:01:00.2`");
  machine.remove(std::string{pci::test_folder} + "driver");
  machine.add(pci::test_device, {.driver = "nvme"});
  expect_one(check_group_viable(machine.here(), {machine.read(pci::test_device)}), status::ok,
             "vfio-pci has no device", "");
}

TEST_F(Checks, WithoutAPciBusThatIsSaid) {
  machine.remove("/sys/bus/pci");
  expect_one(check_pci(machine.here()), status::failed, "no PCI bus", "need none");
}

/// Root may open all; so this test is nobody meanwhile.
TEST_F(Checks, NodesThatThisUserMayNotOpenAreGivenToIt) {
  chmod(machine.files().real("/").c_str(), 0755);
  const auto allow = [this](const char* node, mode_t mode) {
    EXPECT_EQ(chmod(machine.files().real(node).c_str(), mode), 0);
  };
  allow("/dev/vfio/3", 0);
  allow("/dev/vfio/devices/vfio0", 0);
  allow("/dev/iommu", 0666);
  allow("/dev/vfio/vfio", 0666);
  const uid_t was = geteuid();
  ASSERT_EQ(was == 0 ? seteuid(65534) : 0, 0);
  expect("device_access", status::failed, "may not open /dev/vfio/3",
         "`sudo chown $USER /dev/vfio/3 /dev/vfio/devices/vfio0`");
  ASSERT_EQ(seteuid(was), 0);
  allow("/dev/vfio/3", 0666);  // one way is enough
  ASSERT_EQ(was == 0 ? seteuid(65534) : 0, 0);
  expect("device_access", status::ok, "this user may open", "");
  ASSERT_EQ(seteuid(was), 0);
}

}  // namespace
}  // namespace runnel::doctor
