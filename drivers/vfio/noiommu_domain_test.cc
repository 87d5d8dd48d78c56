// Goal: without an IOMMU a device reaches memory by its physical address, or is not told of it.
// Method: the fake kernel, which says where pages are, in one piece or scattered.
#include "drivers/vfio/noiommu_domain.h"

#include <gtest/gtest.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "drivers/vfio/group.h"
#include "drivers/vfio/kernel_device.h"
#include "tests/sim/fake_vfio/deferred_calls.h"
#include "tests/sim/fake_vfio/dma_memory.h"
#include "tests/sim/fake_vfio/kernel.h"

namespace runnel::vfio {
namespace {

using sim::dma_memory;
using sim::fake_kernel;
using sim::finish;
using sim::machine_options;
using sim::page;

/// A device that no IOMMU keeps from anything, opened by its group.
class unguarded_rig {
 public:
  explicit unguarded_rig(machine_options options = {}, const fake_kernel::plan& fails = {})
      : kernel{(options.functions = {{.no_iommu = true}}, options)} {
    kernel.fails = fails;
    if (auto opened = noiommu_domain::open(kernel); opened) {
      domain = std::move(*opened);
    }
  }
  [[nodiscard]] std::unique_ptr<kernel_device> open() {
    const auto& is = kernel.under.functions[0]->options;
    auto device = std::make_unique<kernel_device>(
        kernel, std::make_unique<sim::deferred_calls>(calls),
        std::make_unique<group_opener>(*domain,
                                       group_device{.address = is.address, .group = is.group}));
    device->advance(instant{});
    return device;
  }

  fake_kernel kernel;
  sim::deferred_calls::control calls;
  std::unique_ptr<noiommu_domain> domain;
};

/// Memory that devices see where it is.
region in_place(noiommu_domain& domain, dma_memory& memory, std::size_t pages) {
  region made = memory.piece(0, pages);
  const auto physical = domain.physical_address(made.address);
  EXPECT_TRUE(physical.has_value());
  made.iova_offset = raw(*physical) - reinterpret_cast<std::uintptr_t>(made.address);
  return made;
}

TEST(NoiommuDomain, TheDeviceReachesMemoryWhereItIs) {
  unguarded_rig on;
  const auto device = on.open();
  ASSERT_EQ(device->state(), transport_state::ready) << device->reason().message();
  dma_memory memory;
  const region piece = in_place(*on.domain, memory, 3);
  EXPECT_EQ(finish(on.domain->map(piece)), error{});
  const std::uint16_t command = 0x0106;
  const auto bytes = std::as_bytes(std::span{&command, 1});
  ASSERT_EQ(finish(*device, device->region_write(7, 4, bytes)).status, error{});
  EXPECT_EQ(
      on.kernel.dma(*on.kernel.under.functions[0], raw(piece.first_iova()) + page, 8, access::read),
      piece.address + page);
  EXPECT_EQ(finish(on.domain->unmap(piece)), error{});
}

TEST(NoiommuDomain, MemoryThatIsElsewhereOrScatteredIsRefusedWithARemedy) {
  for (const bool scattered : {false, true}) {
    unguarded_rig on{{.scatters = scattered}};
    const auto device = on.open();
    dma_memory memory;
    region piece = in_place(*on.domain, memory, 2);
    piece.iova_offset += scattered ? 0 : page;
    const error refused = finish(on.domain->map(piece));
    EXPECT_EQ(refused.code, errc::unsupported);
    EXPECT_NE(on.domain->map_hint(refused, piece).find("hugepagesz=1G"), std::string::npos);
  }
}

TEST(NoiommuDomain, WhoMayNotKnowWhereMemoryIsIsToldSo) {
  unguarded_rig on{{.hides_frames = true}};
  dma_memory memory;
  EXPECT_EQ(on.domain->physical_address(memory.bytes().data()).error(), (error{errc::os, EPERM}));
}

TEST(NoiommuDomain, AKernelThatGuardsAllItsDevicesHasNone) {
  fake_kernel kernel;
  const auto refused = noiommu_domain::open(kernel);
  ASSERT_FALSE(refused.has_value());
  EXPECT_NE(refused.error().message().find("enable_unsafe_noiommu_mode"), std::string::npos);
}

TEST(NoiommuDomain, WhicheverCallFailsNothingIsLeft) {
  dma_memory memory;
  std::size_t calls = 0;
  for (std::size_t nth = 0; nth <= calls; ++nth) {  // there is no call 0
    unguarded_rig on{{}, {.call = nth}};
    if (on.domain != nullptr) {
      const auto device = on.open();
      const auto physical = on.domain->physical_address(memory.bytes().data());
      region piece = memory.piece(0, 2);
      if (device->state() == transport_state::ready && physical) {
        piece.iova_offset = raw(*physical) - reinterpret_cast<std::uintptr_t>(piece.address);
        static_cast<void>(finish(on.domain->map(piece)));
      }
    }
    on.domain.reset();
    EXPECT_EQ(on.kernel.held(), fake_kernel::leaks{}) << "call " << nth << " failed";
    calls = nth == 0 ? on.kernel.calls : calls;
  }
  EXPECT_GT(calls, 15U);
}

}  // namespace
}  // namespace runnel::vfio
