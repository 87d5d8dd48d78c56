// Goal: devices opened by their groups come up and go without a trace, whichever system call fails;
// and what a user can mend is said in one line. Method: the fake kernel, one obstacle at a time,
// and every call of a whole life made to fail in turn.
#include "drivers/vfio/group.h"

#include <gtest/gtest.h>
#include <sys/eventfd.h>

#include <array>
#include <cerrno>
#include <functional>
#include <string>
#include <vector>

#include "drivers/vfio/uapi/vfio.h"
#include "mempool/base/unique_fd.h"
#include "tests/sim/fake_vfio/group_rig.h"

namespace runnel::vfio {
namespace {

using sim::dma_memory;
using sim::fake_kernel;
using sim::finish;
using sim::function_options;
using sim::good;
using sim::group_rig;
using sim::machine_options;
using sim::page;

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

/// All that is done with a device, however far it comes.
void live(group_rig& on, dma_memory& memory) {
  if (on.domain == nullptr) {
    EXPECT_FALSE(on.refused->message().empty());
    return;
  }
  auto device = on.open();
  device->advance(on.now);
  if (device->state() == transport_state::gone) {
    EXPECT_FALSE(device->reason().message().empty());
    return;
  }
  const auto mapped = on.domain->map(memory.piece(0, 2));
  const bool is_mapped = finish(mapped) == good;
  static_cast<void>(device->map_region(0, 0x1000, page));
  const unique_fd event{::eventfd(0, EFD_NONBLOCK)};
  const std::array fds{event.get()};
  static_cast<void>(finish(*device, device->set_irqs(2, 0, fds)));
  static_cast<void>(finish(*device, device->region_read(7, 0, 4)));
  const auto resetting = device->reset();
  device->advance(on.now);
  static_cast<void>(finish(*device, resetting));
  const auto resetting_bus = device->hot_reset();
  device->advance(on.now);
  static_cast<void>(finish(*device, resetting_bus));
  if (is_mapped && finish(on.domain->unmap(memory.piece(0, 2))) != good) {
    EXPECT_NE(on.kernel.under.account.charged, 0U) << "still the device's: not to be used again";
  }
  on.function().irqs.raise(4, 0);  // the kernel wants it back
  device->advance(device->advance(on.now));
  const bool absent = on.kernel.fails.number == EINVAL;  // such an interrupt, may the kernel say
  EXPECT_TRUE(device->state() == transport_state::gone || absent);
}

TEST(Group, WhicheverCallFailsNothingIsLeft) {
  dma_memory memory;
  std::size_t calls = 0;
  for (std::size_t nth = 0; nth <= calls; ++nth) {  // there is no call 0
    for (const int number : {EIO, ENOMEM, EBUSY, EINVAL}) {
      group_rig on{{}, type1_domain::vfio_container, {.call = nth, .number = number}};
      live(on, memory);
      on.domain.reset();
      EXPECT_EQ(on.kernel.held(), fake_kernel::leaks{}) << "call " << nth << " failed";
      calls = nth == 0 ? on.kernel.calls : calls;
    }
  }
  EXPECT_GT(calls, 30U);
}

}  // namespace
}  // namespace runnel::vfio
