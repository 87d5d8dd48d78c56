// Goal: what a container's devices reach is what was mapped, and what cannot be mapped is refused
// before or by the kernel, never half done. Method: the fake kernel, its limits set low.
#include "drivers/vfio/type1_domain.h"

#include <gtest/gtest.h>

#include <array>
#include <bit>
#include <cerrno>

#include "drivers/vfio/uapi/type1.h"
#include "tests/sim/fake_vfio/group_rig.h"

namespace runnel::vfio {
namespace {

using sim::dma_memory;
using sim::fake_kernel;
using sim::finish;
using sim::good;
using sim::group_rig;
using sim::page;

constexpr std::uint64_t bus = dma_memory::bus;

void enable_bus_master(kernel_device& device) {
  const auto command = std::bit_cast<std::array<std::byte, 2>>(std::uint16_t{0x0106});
  EXPECT_EQ(finish(device, device.region_write(7, 4, command)).status, good);
}

TEST(Type1Domain, TheDeviceReachesMemoryWhileItIsMappedAndOnlyThat) {
  group_rig on;
  const auto device = on.open();
  dma_memory memory;
  enable_bus_master(*device);
  const auto reaches = [&](std::uint64_t at, std::uint64_t bytes, access wanted) {
    return on.kernel.dma(on.function(), at, bytes, wanted);
  };
  EXPECT_EQ(reaches(bus, 8, access::read), nullptr);
  EXPECT_EQ(finish(on.domain->map(memory.piece(0, 2))), good);
  EXPECT_EQ(reaches(bus + 8, 8, access::read_write), memory.bytes().data() + 8);
  EXPECT_EQ(reaches(bus + 2 * page - 4, 8, access::read), nullptr);
  region read_only = memory.piece(4, 1);
  read_only.permissions = access::read;
  EXPECT_EQ(finish(on.domain->map(read_only)), good);
  EXPECT_EQ(reaches(bus + 4 * page, 8, access::write), nullptr);
  EXPECT_EQ(finish(on.domain->unmap(memory.piece(0, 2))), good);
  EXPECT_EQ(reaches(bus, 8, access::read), nullptr);
}

TEST(Type1Domain, MapsThatMakeNoSenseAreInvalid) {
  group_rig on;
  const auto device = on.open();
  dma_memory memory;
  ASSERT_EQ(finish(on.domain->map(memory.piece(0, 2))), good);
  EXPECT_EQ(on.domain->map(memory.piece(0, 1)).error().code, errc::invalid);
  EXPECT_EQ(on.domain->map(memory.piece(1, 2)).error().code, errc::invalid);
  EXPECT_EQ(on.domain->unmap(memory.piece(0, 1)).error().code, errc::invalid);
  EXPECT_EQ(on.domain->map(memory.piece(4, 1, 0xfee00000)).error().code, errc::invalid);
  EXPECT_EQ(on.domain->map(memory.piece(4, 1, 1ULL << 48U)).error().code, errc::invalid);
  EXPECT_EQ(on.domain->map(memory.piece(4, 1, 0 - page - 4 * page)).error().code, errc::invalid);
  region odd = memory.piece(4, 1);
  odd.length = page / 2;
  EXPECT_EQ(on.domain->map(odd).error().code, errc::invalid);
}

TEST(Type1Domain, WhatTheKernelRefusesIsNotMappedAndMayBeTriedAgain) {
  group_rig on{{.memlock = 2 * page}};
  const auto device = on.open();
  dma_memory memory;
  EXPECT_EQ(finish(on.domain->map(memory.piece(0, 3))), (error{errc::os, ENOMEM}));
  EXPECT_EQ(finish(on.domain->map(memory.piece(0, 2))), good);
  EXPECT_EQ(on.kernel.held().pinned, 2 * page);
}

TEST(Type1Domain, TheNumberOfMapsIsTheKernels) {
  group_rig on{{.maps_max = 2}};
  const auto device = on.open();
  dma_memory memory;
  EXPECT_EQ(on.domain->limits().maps_max, 2U);
  EXPECT_EQ(finish(on.domain->map(memory.piece(0, 1))), good);
  EXPECT_EQ(finish(on.domain->map(memory.piece(2, 1))), good);
  EXPECT_EQ(on.domain->map(memory.piece(4, 1)).error().code, errc::no_memory);
  EXPECT_EQ(finish(on.domain->map(memory.piece(2, 1))), good) << "is mapped already";
}

TEST(Type1Domain, WhatCouldNotBeUnmappedIsInTheWayUntilTheLastGroupLeaves) {
  group_rig on;
  auto device = on.open();
  dma_memory memory;
  ASSERT_EQ(finish(on.domain->map(memory.piece(0, 2))), good);
  on.kernel.fails.call = on.kernel.calls + 1;
  EXPECT_EQ(finish(on.domain->unmap(memory.piece(0, 2))), (error{errc::os, EIO}));
  EXPECT_EQ(on.domain->map(memory.piece(1, 1)).error().code, errc::invalid);
  EXPECT_EQ(on.domain->map(memory.piece(0, 2)).error().code, errc::invalid);
  EXPECT_EQ(on.domain->unmap(memory.piece(0, 2)).error().code, errc::invalid);
  EXPECT_EQ(on.kernel.held().pinned, 2 * page);
  device.reset();
  EXPECT_EQ(on.kernel.held().pinned, 0U);
}

TEST(Type1Domain, AnUnmapThatTheKernelMakesNothingOfIsAnError) {
  group_rig on;
  const auto device = on.open();
  dma_memory memory;
  ASSERT_EQ(finish(on.domain->map(memory.piece(0, 2))), good);
  constexpr int container = fake_kernel::first_fd;
  uapi::iommu_type1_dma_unmap gone{
      .argsz = sizeof(gone), .flags = 0, .iova = bus, .size = 2 * page};
  ASSERT_TRUE(ioctl_on(on.kernel, container, uapi::ioctls::iommu_unmap_dma, gone).has_value());
  EXPECT_EQ(finish(on.domain->unmap(memory.piece(0, 2))).code, errc::protocol);
}

TEST(Type1Domain, ADeviceThatReachesLessNarrowsWhatIsAllowed) {
  group_rig on{{.functions = {{}, {.address = "0000:02:00.0", .group = 13, .address_bits = 39}}}};
  const auto wide = on.open(0);
  EXPECT_EQ(on.domain->allowed_ranges().back().last, (1ULL << 48U) - 1);
  const auto narrow = on.open(1);
  EXPECT_EQ(on.domain->allowed_ranges().back().last, (1ULL << 39U) - 1);
  dma_memory memory;
  EXPECT_EQ(on.domain->map(memory.piece(0, 1, 1ULL << 40U)).error().code, errc::invalid);
}

TEST(Type1Domain, ADeviceForWhomTooMuchIsMappedSaysSo) {
  group_rig on{{.functions = {{}, {.address = "0000:02:00.0", .group = 13, .address_bits = 39}}}};
  const auto wide = on.open(0);
  dma_memory memory;
  ASSERT_EQ(finish(on.domain->map(memory.piece(0, 1, 1ULL << 40U))), good);
  const auto narrow = on.open(1);
  ASSERT_EQ(narrow->state(), transport_state::gone);
  EXPECT_NE(narrow->reason().message().find("name it first"), std::string::npos);
}

TEST(Type1Domain, NothingIsMappedAnyMoreWhenTheLastGroupHasLeft) {
  group_rig on;
  auto device = on.open();
  dma_memory memory;
  ASSERT_EQ(finish(on.domain->map(memory.piece(0, 1))), good);
  device.reset();
  EXPECT_EQ(on.kernel.held().pinned, 0U);
  EXPECT_EQ(on.domain->map(memory.piece(0, 1)).error().code, errc::device_gone);
  EXPECT_EQ(on.domain->unmap(memory.piece(0, 1)).error().code, errc::device_gone);
  device = on.open();
  EXPECT_EQ(finish(on.domain->map(memory.piece(0, 1))), good);
}

TEST(Type1Domain, ADeviceThatIsStillBeingClosedReachesNothingAndIsInNobodysWay) {
  group_rig on{{.functions = {{}, {.address = "0000:02:00.0", .group = 13}}}};
  auto device = on.open(0);
  dma_memory memory;
  enable_bus_master(*device);
  ASSERT_EQ(finish(on.domain->map(memory.piece(0, 1))), good);
  on.calls.at_once = false;
  device.reset();
  EXPECT_EQ(on.kernel.held().open_functions, 1) << "the kernel takes its time";
  EXPECT_EQ(on.kernel.dma(on.function(), bus, 8, access::read), nullptr);
  const auto again = on.open(0);
  ASSERT_EQ(again->state(), transport_state::gone);
  EXPECT_NE(again->reason().message().find("still being closed"), std::string::npos);
  const auto other = on.make(1);
  other->advance(on.now);
  on.calls.run_all();
  other->advance(on.now);
  EXPECT_EQ(other->state(), transport_state::ready);
  EXPECT_EQ(finish(on.domain->map(memory.piece(0, 1))), good);
}

}  // namespace
}  // namespace runnel::vfio
