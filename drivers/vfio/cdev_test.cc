// Goal: devices opened by their nodes and translated by an iommufd do what those of groups do, on
// kernels old and new, and leave nothing whichever system call fails. Method: the fake kernel.
#include "drivers/vfio/cdev.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "tests/sim/fake_vfio/cdev_rig.h"
#include "tests/sim/fake_vfio/dma_memory.h"
#include "tests/sim/fake_vfio/whole_life.h"

namespace runnel::vfio {
namespace {

using sim::cdev_rig;
using sim::dma_memory;
using sim::fake_kernel;
using sim::finish;
using sim::good;
using sim::machine_options;
using sim::page;

TEST(Cdev, ADeviceComesUpOnEveryKernelThatHasNodes) {
  for (const unsigned version : {606U, 612U, 615U, 617U, 701U}) {
    cdev_rig on{{.version = version}};
    const auto device = on.open();
    EXPECT_EQ(device->state(), transport_state::ready) << version;
    EXPECT_EQ(on.domain->allowed_ranges().size(), 2U) << version;
    EXPECT_EQ(on.domain->limits().page_bytes, page) << version;
  }
}

TEST(Cdev, EveryObstacleIsNamedWithItsRemedy) {
  struct obstacle {
    const char* what;
    machine_options machine;
    std::function<void(cdev_rig&)> arrange;
    std::vector<std::string> said;  // each in the message
  };
  const auto nothing = [](cdev_rig&) {};
  for (const obstacle& each :
       {obstacle{"on its own driver",
                 {.functions = {{.driver = "nvme"}}},
                 nothing,
                 {"pci:0000:01:00.0", "/dev/vfio/devices/vfio0", "runnel bind 0000:01:00.0"}},
        obstacle{"no permission",
                 {},
                 [](cdev_rig& on) { on.kernel.refuses_open = EACCES; },
                 {"pci:0000:01:00.0", "Permission denied", "give yourself"}},
        obstacle{"open already",
                 {},
                 [](cdev_rig& on) { on.function().opened = 1; },
                 {"pci:0000:01:00.0", "it is open already, by this node"}},
        obstacle{"a token is missing",
                 {.functions = {{.token = "a VF's"}}},
                 nothing,
                 {"pci:0000:01:00.0", "another token"}},
        obstacle{"a token by a node, before 6.17",
                 {.functions = {{.token = "a VF's"}}},
                 [](cdev_rig& on) { on.token.emplace(); },
                 {"pci:0000:01:00.0", "use its group"}}}) {
    cdev_rig on{each.machine};
    each.arrange(on);
    auto device = on.open();
    ASSERT_EQ(device->state(), transport_state::gone) << each.what;
    const std::string message = device->reason().message();
    for (const std::string& part : each.said) {
      EXPECT_NE(message.find(part), std::string::npos) << each.what << ": " << message;
    }
    device.reset();
    on.domain.reset();
    on.function().opened = 0;
    EXPECT_EQ(on.kernel.held(), fake_kernel::leaks{}) << each.what;
  }
}

TEST(Cdev, AKernelWithoutIommufdPointsToGroups) {
  const cdev_rig on{{.iommufd = false}};
  ASSERT_TRUE(on.refused.has_value());
  EXPECT_EQ(on.refused->message(),
            "open /dev/iommu: No such file or directory; this kernel has no iommufd: use groups");
}

TEST(Cdev, AVirtualFunctionIsOpenedWithItsTokenSince617) {
  cdev_rig on{{.functions = {{.token = "a VF's"}}, .version = 617}};
  on.token.emplace();  // zeros, as the fake's physical function has
  EXPECT_EQ(on.open()->state(), transport_state::ready);
}

TEST(IoasDomain, MemoryIsMappedByItsFileWhereTheKernelCan) {
  for (const unsigned version : {612U, 613U}) {
    cdev_rig on{{.version = version}};
    const auto device = on.open();
    dma_memory memory;
    region piece = memory.piece(0, 2);
    piece.fd = 3;
    on.kernel.under.memory_of_file[3] = memory.bytes().data();
    EXPECT_EQ(finish(on.domain->map(piece)), good) << version;
    EXPECT_EQ(on.kernel.held().pinned, 2 * page);
    EXPECT_EQ(finish(on.domain->map(memory.piece(2, 1))), good) << "without a file";
    EXPECT_EQ(finish(on.domain->unmap(piece)), good);
    EXPECT_EQ(on.kernel.held().pinned, page);
  }
}

TEST(IoasDomain, WhatIsMappedKeepsOutADeviceThatCannotReachIt) {
  cdev_rig on{
      {.functions = {
           {}, {.address = "0000:02:00.0", .group = 13, .node = "vfio1", .address_bits = 39}}}};
  const auto wide = on.open(0);
  dma_memory memory;
  ASSERT_EQ(finish(on.domain->map(memory.piece(0, 1, 1ULL << 40U))), good);
  const auto narrow = on.open(1);
  ASSERT_EQ(narrow->state(), transport_state::gone);
  EXPECT_NE(narrow->reason().message().find("name it first"), std::string::npos);
  EXPECT_EQ(finish(on.domain->unmap(memory.piece(0, 1, 1ULL << 40U))), good);
  const auto again = on.open(1);
  EXPECT_EQ(again->state(), transport_state::ready);
  EXPECT_EQ(on.domain->map(memory.piece(0, 1, 1ULL << 40U)).error().code, errc::invalid);
}

TEST(KernelDomain, TellsWhichNumberToChange) {
  cdev_rig on{{.memlock = 2 * page}};
  const auto device = on.open();
  dma_memory memory;
  ASSERT_EQ(finish(on.domain->map(memory.piece(0, 1))), good);
  const region large = memory.piece(2, 2);
  const error over = finish(on.domain->map(large));
  EXPECT_EQ(over, (error{errc::os, ENOMEM}));
  EXPECT_NE(on.domain->map_hint(over, large)
                .find("8 KiB may be locked and 4 KiB are: raise the limit to 12 KiB"),
            std::string::npos)
      << on.domain->map_hint(over, large);
  const region far = memory.piece(0, 1, 0xfee00000);
  const auto mapped = on.domain->map(far);
  ASSERT_FALSE(mapped.has_value());
  const std::string hint = on.domain->map_hint(mapped.error(), far);
  EXPECT_NE(hint.find("0xfee00000-0xfee00fff"), std::string::npos) << hint;
  EXPECT_NE(hint.find("0xfef00000-0xffffffffffff"), std::string::npos) << hint;
}

TEST(KernelDomain, WhatTwoDevicesAskForIsPinnedOnceUntilBothGaveItUp) {
  cdev_rig on{{.functions = {{}, {.address = "0000:02:00.0", .group = 13, .node = "vfio1"}}}};
  const auto first = on.open(0);
  const auto second = on.open(1);
  dma_memory memory;
  const region piece = memory.piece(0, 2);
  ASSERT_EQ(finish(on.domain->map(piece)), good);
  ASSERT_EQ(finish(on.domain->map(piece)), good);
  EXPECT_EQ(on.kernel.held().pinned, 2 * page);
  EXPECT_EQ(finish(on.domain->unmap(piece)), good);
  EXPECT_EQ(on.kernel.held().pinned, 2 * page);
  EXPECT_EQ(finish(on.domain->unmap(piece)), good);
  EXPECT_EQ(on.kernel.held().pinned, 0U);
}

TEST(Cdev, WhicheverCallFailsNothingIsLeft) {
  dma_memory memory;
  region piece = memory.piece(0, 2);
  piece.fd = 3;
  sim::expect_nothing_left_whichever_call_fails(piece, [&](const fake_kernel::plan& fails) {
    auto on = std::make_unique<cdev_rig>(machine_options{.version = 613}, fails);
    on->kernel.under.memory_of_file[piece.fd] = piece.address;
    return on;
  });
}

}  // namespace
}  // namespace runnel::vfio
