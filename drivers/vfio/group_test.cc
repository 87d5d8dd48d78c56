// Goal: devices opened by their groups come up and go without a trace, whichever system call fails;
// and what a user can mend is said in one line. Method: the fake kernel, one obstacle at a time,
// and every call of a whole life made to fail in turn.
#include "drivers/vfio/group.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "tests/sim/fake_vfio/group_rig.h"
#include "tests/sim/fake_vfio/whole_life.h"

namespace runnel::vfio {
namespace {

using sim::dma_memory;
using sim::fake_kernel;
using sim::finish;
using sim::function_options;
using sim::good;
using sim::group_rig;
using sim::machine_options;

TEST(Group, EveryObstacleIsNamedWithItsRemedy) {
  struct obstacle {
    const char* what;
    machine_options machine;
    std::function<void(group_rig&)> arrange;
    std::vector<std::string> said;  // each in the message
  };
  const auto nothing = [](group_rig&) {};
  const function_options sibling{.address = "0000:01:00.1", .driver = "nvme"};
  for (const obstacle& each :
       {obstacle{"not viable",
                 {.functions = {{}, sibling}},
                 nothing,
                 {"pci:0000:01:00.0", "group 12 is not viable", "runnel devices"}},
        obstacle{"on its own driver",
                 {.functions = {{.driver = "nvme"}}},
                 [](group_rig& on) { on.function().options.driver = "nvme"; },
                 {"pci:0000:01:00.0", "group 12 is not viable"}},
        obstacle{"no such group",
                 {},
                 [](group_rig& on) { on.kernel.refuses_open = ENOENT; },
                 {"pci:0000:01:00.0", "/dev/vfio/12", "runnel bind 0000:01:00.0"}},
        obstacle{"no permission",
                 {},
                 [](group_rig& on) { on.kernel.refuses_open = EACCES; },
                 {"pci:0000:01:00.0", "Permission denied", "/dev/vfio/12"}},
        obstacle{"somebody else has it",
                 {},
                 [](group_rig& on) { on.kernel.refuses_open = EBUSY; },
                 {"another process has /dev/vfio/12 open"}},
        obstacle{"a token is missing",
                 {.functions = {{.token = "123"}}},
                 [](group_rig& on) { on.function().options.token = "456"; },
                 {"pci:0000:01:00.0", "token"}}}) {
    group_rig on{each.machine};
    auto device = on.make();
    each.arrange(on);
    device->advance(on.now);
    ASSERT_EQ(device->state(), transport_state::gone) << each.what;
    const std::string message = device->reason().message();
    for (const std::string& part : each.said) {
      EXPECT_NE(message.find(part), std::string::npos) << each.what << ": " << message;
    }
    device.reset();
    on.domain.reset();
    EXPECT_EQ(on.kernel.held(), fake_kernel::leaks{}) << each.what;
  }
}

TEST(Group, ADeviceIsOpenedWithItsToken) {
  group_rig on{{.functions = {{.token = "8b54ee6a-ad42-4f1e-a0a3-0b5e2c9c3f5e"}}}};
  EXPECT_EQ(on.open()->state(), transport_state::ready);
}

TEST(Group, DevicesOfOneGroupShareIt) {
  group_rig on{{.functions = {{}, {.address = "0000:01:00.1"}}}};
  auto first = on.open(0);
  auto second = on.open(1);
  EXPECT_EQ(first->state(), transport_state::ready);
  EXPECT_EQ(second->state(), transport_state::ready);
  first.reset();
  dma_memory memory;
  EXPECT_EQ(finish(on.domain->map(memory.piece(0, 1))), good) << "one is left";
}

TEST(Group, IommufdServesAsAContainerWhoseRangesAreKnownOnceADeviceIsOpen) {
  group_rig on{{}, type1_domain::iommufd_container};
  auto device = on.open();
  ASSERT_EQ(device->state(), transport_state::ready);
  EXPECT_EQ(on.domain->allowed_ranges().size(), 2U);
  dma_memory memory;
  EXPECT_EQ(finish(on.domain->map(memory.piece(0, 2))), good);
  EXPECT_EQ(finish(on.domain->unmap(memory.piece(0, 2))), good);
  EXPECT_EQ(finish(on.domain->map(memory.piece(0, 2))), good);
  device.reset();
  EXPECT_EQ(on.kernel.held().pinned, 0U) << "what it would keep by itself";
}

TEST(Group, IommufdLimitsNoMapsHoweverManyThereAre) {
  group_rig on{{.functions = {{}, {.address = "0000:01:00.1"}}}, type1_domain::iommufd_container};
  const auto first = on.open(0);
  dma_memory memory;
  ASSERT_EQ(finish(on.domain->map(memory.piece(0, 1))), good);
  const auto second = on.open(1);
  EXPECT_EQ(on.domain->limits().maps_max, ~0U);
  EXPECT_EQ(finish(on.domain->map(memory.piece(1, 1))), good);
}

TEST(Group, WhicheverCallFailsNothingIsLeft) {
  dma_memory memory;
  sim::expect_nothing_left_whichever_call_fails(
      memory.piece(0, 2), [](const fake_kernel::plan& fails) {
        return std::make_unique<group_rig>(machine_options{}, type1_domain::vfio_container, fails);
      });
}

}  // namespace
}  // namespace runnel::vfio
