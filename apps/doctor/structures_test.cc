// Goal: what a kernel tells of its structures is told as it is, beside what is known of others; one
// that tells nothing is described as known, and that is said. Method: BTF that libbpf makes here,
// as a running kernel has it in /sys, and as packages have it.

#include "apps/doctor/structures.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "apps/doctor/known_structures.h"
#include "apps/doctor/machine_for_tests.h"
#include "apps/doctor/types_for_tests.h"

namespace runnel::doctor {
namespace {

const structure& named(const std::vector<structure>& all, std::string_view name) {
  const auto found = std::ranges::find(all, name, &structure::name);
  EXPECT_NE(found, all.end()) << name;
  return *found;
}

std::vector<std::string> declarations(const structure& one) {
  std::vector<std::string> all;
  for (const member& each : one.members) {
    all.push_back(each.what.declaration);
  }
  return all;
}

void expect_as_made(const std::vector<structure>& all) {
  const structure& device = named(all, "vfio_device");
  EXPECT_TRUE(device.is_told());
  EXPECT_EQ(device.bytes, 24U);
  EXPECT_EQ(declarations(device),
            (std::vector<std::string>{"struct kvm *kvm", "int open_count", "int tomorrow"}));
  EXPECT_EQ(device.members[1].what.offset_bits, 64U);
  EXPECT_EQ(device.members[1].known_of, (std::vector<std::string_view>{"5.15", "5.19", "6.18"}));
  EXPECT_TRUE(device.members[2].known_of.empty());
  EXPECT_EQ(device.absent.size(), 25U);  // of 27 names that are known
  EXPECT_EQ(device.absent[0].declaration, "struct kref kref");
  EXPECT_EQ(device.absent[0].known_of, (std::vector<std::string_view>{"5.4", "5.8", "5.11"}));
  const structure& core = named(all, "vfio_pci_core_device");
  EXPECT_EQ(declarations(core),
            (std::vector<std::string>{"struct vfio_device vdev", "int nointx: 1"}));
  EXPECT_EQ(core.members[1].what.bits, 1U);
  EXPECT_EQ(declarations(named(all, "vfio_device_ops")),
            (std::vector<std::string>{"int (*init)(struct kvm *device)"}));
  EXPECT_EQ(declarations(named(all, "vfio_log_ops")),
            (std::vector<std::string>{
                "const union { int one; int (*other)(struct kvm *device); } choices[3]"}));
  const structure& migration = named(all, "vfio_migration_ops");
  EXPECT_TRUE(migration.is_told());
  EXPECT_EQ(migration.from, "");
  EXPECT_EQ(migration.absent.size(), 3U);
}

TEST(Structures, OfARunningKernelAreThoseOfItsModule) {
  healthy_machine machine;
  const types_for_tests types = make_types();
  machine.file("/sys/kernel/btf/vmlinux", types.base);
  machine.file("/sys/kernel/btf/vfio_pci_core", types.module);
  const auto all = running_structures(machine.files());
  expect_as_made(all);
  EXPECT_TRUE(named(all, "vfio_device").from.ends_with("/sys/kernel/btf/vfio_pci_core"));
  EXPECT_EQ(named(all, "vfio_device").kernel, "6.12.95+deb12-amd64");
}

TEST(Structures, OfAKernelThatTellsNothingAreAsKnownOfTheNearestAndThatIsSaid) {
  healthy_machine machine;
  const auto expect_known = [&machine](const std::string& why) {
    const structure device = named(running_structures(machine.files()), "vfio_device");
    EXPECT_FALSE(device.is_told());
    EXPECT_EQ(device.from, "5.19");
    EXPECT_NE(device.why_known.find(why), std::string::npos) << device.why_known;
    EXPECT_EQ(device.members.size(), 12U);
    EXPECT_EQ(device.members[2].what.declaration, "const struct vfio_migration_ops *mig_ops");
    EXPECT_EQ(device.absent.size(), 15U);
  };
  expect_known("there is no /sys/kernel/btf/vmlinux");
  machine.file("/sys/kernel/btf/vmlinux", make_types().base);
  expect_known("CONFIG_DEBUG_INFO_BTF_MODULES");
  machine.remove("/sys/module/vfio");
  expect_known("`modprobe vfio-pci`");
  machine.file("/sys/kernel/btf/vmlinux", "lies");
  expect_known("its BTF is not as it should be");
}

class PackagedStructures : public testing::Test {
 protected:
  PackagedStructures() {
    machine.file("/boot/vmlinuz-6.1.0-50-amd64", types.base);
    machine.file(vfio + "pci/vfio-pci-core.ko", types.module);
    machine.file(vfio + "vfio.ko", types.module);
  }

  [[nodiscard]] outcome<std::vector<structure>> described() const {
    return packaged_structures(machine.files().real(""));
  }
  void expect_refused(const std::string& hint) const {
    const auto all = described();
    ASSERT_FALSE(all);
    EXPECT_NE(all.error().hint.find(hint), std::string::npos) << all.error().message();
  }

  std::string vfio = "/lib/modules/6.1.0-50-amd64/kernel/drivers/vfio/";
  types_for_tests types = make_types();
  pci::machine_for_tests machine;
};

TEST_F(PackagedStructures, AreThoseOfItsFiles) {
  const auto all = described();
  ASSERT_TRUE(all) << all.error().message();
  expect_as_made(*all);
  EXPECT_EQ(all->front().kernel, "6.1.0-50-amd64");
  machine.remove("/boot");
  machine.file("/usr/lib/modules/6.1.0-50-amd64/vmlinuz", types.base);
  expect_refused("no kernel: ");  // in the folder of the modules that were found last
  machine.file("/lib/modules/6.1.0-50-amd64/vmlinuz", types.base);
  EXPECT_TRUE(described());
}

TEST_F(PackagedStructures, AFolderOfSomethingElseIsRefused) {
  machine.folder("/lib/modules/6.12.0-1-amd64");
  expect_refused("several kernels, 6.1.0-50-amd64, 6.12.0-1-amd64");
  machine.remove("/lib/modules");
  expect_refused("no lib/modules: unpack a linux-image package");
}

TEST_F(PackagedStructures, FilesThatAreWrongAreNamed) {
  machine.file(vfio + "pci/vfio-pci-core.ko", "lies");
  const auto all = described();
  ASSERT_FALSE(all);
  EXPECT_TRUE(all.error().object.ends_with("vfio-pci-core.ko"));
  EXPECT_EQ(all.error().hint, "its BTF is not as it should be");
}

TEST(KnownStructures, TheNearestKernelIsTheNewestThatIsNotNewer) {
  const known_structure& device = known_structures()[0];
  const auto nearest = [&device](const char* release) {
    return device.kernels[nearest_kernel(device, release)];
  };
  EXPECT_EQ(nearest("4.19.0"), "5.4");
  EXPECT_EQ(nearest("5.10.0-32-amd64"), "5.8");
  EXPECT_EQ(nearest("5.4"), "5.4");
  EXPECT_EQ(nearest("6.12.95+deb12-amd64"), "5.19");
  EXPECT_EQ(nearest("7.2"), "6.18");
  EXPECT_EQ(nearest("unknown"), "5.4");
}

TEST(KnownStructures, EachHasTheMembersThatItsKernelsHad) {
  const auto count = [](const known_structure& which, std::size_t kernel) {
    return std::ranges::count_if(which.fields, [kernel](const known_field& each) {
      return each.first <= kernel && kernel <= each.last;
    });
  };
  const auto counts = [&count](const known_structure& which) {
    std::vector<std::ptrdiff_t> all;
    for (std::size_t i = 0; i < which.kernels.size(); ++i) {
      all.push_back(count(which, i));
    }
    return all;
  };
  EXPECT_EQ(counts(known_structures()[0]), (std::vector<std::ptrdiff_t>{6, 6, 6, 6, 9, 12, 25}));
  EXPECT_EQ(counts(known_structures()[1]), (std::vector<std::ptrdiff_t>{37, 42, 42, 43}));
  EXPECT_EQ(counts(known_structures()[2]), (std::vector<std::ptrdiff_t>{20}));
}

TEST(KnownStructures, TheNameIsFoundInAnyDeclaration) {
  EXPECT_EQ(declared_name("int (*init)(struct vfio_device *)"), "init");
  EXPECT_EQ(declared_name("struct kvm *kvm"), "kvm");
  EXPECT_EQ(declared_name("bool bar_mmap_supported[6]"), "bar_mmap_supported");
  EXPECT_EQ(declared_name("u8 cdev_opened: 1"), "cdev_opened");
  EXPECT_EQ(declared_name(""), "");
}

}  // namespace
}  // namespace runnel::doctor
