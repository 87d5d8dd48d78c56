// Goal: what is known to be wrong with a device is kept away from, and nothing else is.
// Method: a device with the ids of such a one, as in controller_test.cc.
#include "drivers/nvme/quirks.h"

#include <gtest/gtest.h>

#include <vector>

#include "tests/sim/nvme_controller_rig.h"

namespace runnel::nvme {
namespace {

constexpr std::uint32_t ordinary = 0x1234'1b36;
constexpr std::uint32_t old_qemu = 0x5845'8086;
constexpr std::uint32_t nytro = 0x0100'1bb1;

TEST(quirks, BelongToVendorAndDeviceTogether) {
  EXPECT_TRUE(quirks_of(ordinary).empty());
  EXPECT_TRUE(quirks_of(0x5845'1bb1).empty());
  EXPECT_TRUE(quirks_of(0x8086'5845).empty());
  EXPECT_TRUE(quirks_of(nytro).contains(quirk::late_status));
  EXPECT_TRUE(quirks_of(nytro).contains(quirk::no_descriptors));
  EXPECT_FALSE(quirks_of(nytro).contains(quirk::no_write_zeroes));
  EXPECT_TRUE(quirks_of(old_qemu).contains(quirk::no_write_zeroes));
}

/// A controller that is ready.
std::unique_ptr<controller_rig> open(std::uint32_t pci_id,
                                     std::vector<std::uint32_t> namespaces = {1}) {
  auto on = std::make_unique<controller_rig>(
      sim::nvme_device_options{.oncs = oncs_write_zeroes, .namespaces = std::move(namespaces)});
  on->transport->pci_id = pci_id;
  EXPECT_TRUE(on->reach(controller_state::ready));
  return on;
}

TEST(quirks, WriteZeroesIsNotOfferedWhereItIsBroken) {
  EXPECT_TRUE(open(ordinary)->subject->info().operations.contains(block_op::write_zeroes));
  EXPECT_FALSE(open(old_qemu)->subject->info().operations.contains(block_op::write_zeroes));
}

TEST(quirks, NamespacesAreCountedWhereTheyCannotBeListed) {
  const auto on = open(old_qemu, {1, 2, 3});
  EXPECT_FALSE(on->device.identified.contains(identify_cns::active_namespaces));
  EXPECT_EQ(on->subject->details().active_namespaces, (std::vector<std::uint32_t>{1, 2, 3}));
  EXPECT_TRUE(open(ordinary)->device.identified.contains(identify_cns::active_namespaces));
}

TEST(quirks, ANumberOfNamespacesThatNoListHoldsIsCutShort) {
  EXPECT_EQ(open(old_qemu, {1, 0xffff'ffff})->subject->details().active_namespaces.size(), 1024U);
}

TEST(quirks, DescriptorsAreNotAskedForWhereTheyHurt) {
  const auto on = open(nytro);
  EXPECT_FALSE(on->device.identified.contains(identify_cns::namespace_descriptors));
  EXPECT_FALSE(on->subject->details().names.uuid.has_value());
}

TEST(quirks, StatusIsReadLateWhereItMustBe) {
  for (const bool late : {true, false}) {
    SCOPED_TRACE(late);
    controller_rig on;
    on.transport->pci_id = late ? nytro : ordinary;
    on.device.faults.never_ready = true;  // within the second that it says
    const instant start = on.clock.now();
    ASSERT_TRUE(on.reach(controller_state::failed));
    EXPECT_EQ(on.subject->reason().operation, "wait for ready");
    const nanoseconds expected = std::chrono::seconds{1} + (late ? 2 : 0) * late_status_delay;
    EXPECT_GE(on.clock.now() - start, expected) << "once for each change of CC.EN";
    EXPECT_LT(on.clock.now() - start, expected + late_status_delay);
  }
}

}  // namespace
}  // namespace runnel::nvme
