// Goal: a device of the kernel is a device_transport like any other, and what its kernel cannot do
// or does late is said, not waited for. Method: devices of the fake kernel, opened by their groups.
#include "drivers/vfio/kernel_device.h"

#include <gtest/gtest.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstring>
#include <vector>

#include "drivers/vfio/uapi/features.h"
#include "drivers/vfio/uapi/vfio.h"
#include "mempool/base/unique_fd.h"
#include "tests/sim/fake_vfio/group_rig.h"

namespace runnel::vfio {
namespace {

using sim::finish;
using sim::good;
using sim::group_rig;
using sim::page;
using sim::pci_function;

constexpr std::uint32_t bar = 0;
constexpr std::uint32_t config = 7;
constexpr std::uint32_t msix = 2;

template <class T>
[[nodiscard]] std::array<std::byte, sizeof(T)> bytes_of(T value) {
  return std::bit_cast<std::array<std::byte, sizeof(T)>>(value);
}
[[nodiscard]] unique_fd make_eventfd() {
  return unique_fd{::eventfd(0, EFD_NONBLOCK)};
}
[[nodiscard]] std::uint64_t fired(const unique_fd& eventfd) {
  std::uint64_t count = 0;
  return ::read(eventfd.get(), &count, sizeof(count)) == sizeof(count) ? count : 0;
}

TEST(KernelDevice, TellsThePartsOfTheDeviceAndThatOthersAreAbsent) {
  group_rig on;
  const auto device = on.open();
  ASSERT_EQ(device->state(), transport_state::ready);
  EXPECT_EQ(device->info().flags, uapi::device_flags::pci | uapi::device_flags::reset);
  EXPECT_EQ(device->region_at(bar).size, pci_function::bar_bytes);
  EXPECT_EQ(device->region_at(config).size, pci_function::config_bytes);
  EXPECT_EQ(device->irq_at(msix).count, 65U);
  for (const std::uint32_t absent : {1U, 6U, 8U, 9U, ~0U}) {
    EXPECT_EQ(device->region_at(absent).size, 0U) << absent;
  }
  EXPECT_EQ(device->irq_at(5).count, 0U);
}

TEST(KernelDevice, ARegionOfItsOwnIsFoundByItsTypeAndUsed) {
  constexpr region_type opregion{.type = 0x8000'8086, .subtype = 1};
  group_rig on{{.functions = {{.own_region = opregion}}}};
  const auto device = on.open();
  ASSERT_EQ(device->state(), transport_state::ready);
  const auto index = find_region(*device, opregion);
  ASSERT_EQ(index, pci_function::own_region);
  EXPECT_EQ(find_region(*device, {.type = 0x8000'8086, .subtype = 2}), std::nullopt);
  EXPECT_EQ(device->region_at(*index).size, pci_function::own_bytes);
  EXPECT_EQ(finish(*device, device->region_write(*index, 8, bytes_of(77U))).status, good);
  EXPECT_EQ(finish(*device, device->region_read(*index, 8, 4)).value, 77U);
}

TEST(KernelDevice, ADeviceThatTellsNonsenseIsNotOpened) {
  group_rig on{{.functions = {{.irqs = {.counts = {1, 32, 2049, 1, 1}}}}}};
  auto device = on.open();
  ASSERT_EQ(device->state(), transport_state::gone);
  EXPECT_EQ(device->reason().what.code, errc::protocol);
  device.reset();
  on.domain.reset();
  EXPECT_EQ(on.kernel.held(), sim::fake_kernel::leaks{});
}

TEST(KernelDevice, NothingIsPossibleBeforeItIsOpen) {
  group_rig on;
  on.calls.at_once = false;
  const auto device = on.open();
  EXPECT_EQ(device->state(), transport_state::connecting);
  EXPECT_EQ(device->region_read(bar, 0, 4).error().code, errc::busy);
  EXPECT_EQ(device->reset().error().code, errc::busy);
  EXPECT_TRUE(device->map_region(bar, 0, page).empty());
  on.calls.run_all();
  EXPECT_EQ(device->state(), transport_state::connecting) << "results appear in `advance`";
  device->advance(on.now);
  EXPECT_EQ(device->state(), transport_state::ready);
}

TEST(KernelDevice, AnOpeningThatDoesNotEndIsGivenUpAndLeavesNothing) {
  group_rig on;
  on.calls.at_once = false;
  auto device = on.open();
  const instant deadline = device->advance(on.now);
  EXPECT_EQ(deadline, on.now + kernel_device_options{}.open_timeout);
  EXPECT_EQ(device->advance(deadline), never);
  EXPECT_EQ(device->state(), transport_state::gone);
  EXPECT_EQ(device->reason().what.code, errc::timed_out);
  EXPECT_EQ(device->reason().object, "pci:0000:01:00.0");
  device.reset();
  on.domain.reset();
  on.calls.run_all();  // the kernel comes to its end after all
  EXPECT_EQ(on.kernel.held(), sim::fake_kernel::leaks{});
}

TEST(KernelDevice, WhatWasOpenedForNobodyIsClosedElsewhere) {
  group_rig on;
  on.calls.at_once = false;
  auto device = on.open();
  on.calls.run_all();
  device.reset();  // it has not heard of that
  EXPECT_EQ(on.kernel.held().open_functions, 1) << "closing takes long";
  on.calls.run_all();
  EXPECT_EQ(on.kernel.held().open_functions, 0);
}

TEST(KernelDevice, RegistersAreReadBackAndResultsAreThereAtOnce) {
  group_rig on;
  const auto device = on.open();
  const std::uint64_t value = 0x8877665544332211;
  for (const std::uint32_t size : {1U, 2U, 4U, 8U}) {
    const auto bytes = bytes_of(value);
    const auto part = std::span{bytes}.first(size);
    EXPECT_EQ(finish(*device, device->region_write(bar, 64 * size, part)).status, good);
    const auto read = finish(*device, device->region_read(bar, 64 * size, size));
    EXPECT_EQ(read.value, size == 8 ? value : value & ((1ULL << size * 8) - 1));
  }
  const auto waiting = device->region_read(bar, 64, 1);
  EXPECT_EQ(device->advance(on.now), on.now) << "somebody may sleep until there is news";
  EXPECT_EQ(device->advance(on.now), never);
  EXPECT_EQ(finish(*device, waiting).value, 0x11U);
}

TEST(KernelDevice, ConfigurationSpaceIsAccessedInAlignedPieces) {
  group_rig on;
  const auto device = on.open();
  on.kernel.calls = 0;
  const auto whole = finish(*device, device->region_read(config, 1, 10));
  EXPECT_EQ(whole.data.size(), 10U);
  EXPECT_EQ(on.kernel.calls, 5U) << "of 1, 2, 4, 2 and 1 bytes";
}

TEST(KernelDevice, AccessesThatFailKeepTheirErrnoAndThoseOutsideAreInvalid) {
  group_rig on;
  const auto device = on.open();
  for (const std::uint64_t offset : {0x4000ULL - 3, 0x4000ULL, ~0ULL, ~0ULL - 3}) {
    EXPECT_EQ(device->region_read(bar, offset, 4).error().code, errc::invalid);
    EXPECT_EQ(device->region_post(bar, offset, bytes_of(1)).error().code, errc::invalid);
  }
  EXPECT_EQ(device->region_read(1, 0, 4).error().code, errc::invalid);
  EXPECT_EQ(device->region_read(bar, 0, 0).error().code, errc::invalid);
  const auto off = bytes_of(std::uint16_t{0});
  EXPECT_EQ(finish(*device, device->region_write(config, 4, off)).status, good);
  EXPECT_EQ(finish(*device, device->region_read(bar, 0, 4)).status, (error{errc::os, EIO}));
  EXPECT_TRUE(device->region_post(bar, 0, off).has_value()) << "nobody hears of it";
}

TEST(KernelDevice, MappedAreasAreTheDevicesOwnBytes) {
  group_rig on;
  const auto device = on.open();
  const auto area = device->map_region(bar, 0x1000, page);
  ASSERT_EQ(area.size(), page);
  area[4] = std::byte{42};
  EXPECT_EQ(on.function().bar()[0x1004], std::byte{42});
  EXPECT_EQ(device->map_region(bar, 0, pci_function::bar_bytes).size(), pci_function::bar_bytes);
  EXPECT_TRUE(device->map_region(bar, 0x1000, pci_function::bar_bytes).empty());
  EXPECT_TRUE(device->map_region(bar, 0, 0).empty());
  EXPECT_TRUE(device->map_region(config, 0, page).empty());
}

TEST(KernelDevice, AreasAreAroundAnMsixTableThatMustNotBeMapped) {
  group_rig on{{.functions = {{.msix_mappable = false}}}};
  const auto device = on.open();
  const auto& areas = device->region_at(bar).areas;
  ASSERT_EQ(areas.size(), 2U);
  EXPECT_EQ(areas[0].length, pci_function::msix_table);
  EXPECT_EQ(areas[1].offset, pci_function::msix_table + page);
  EXPECT_FALSE(device->map_region(bar, 0x1000, page).empty());
  EXPECT_TRUE(device->map_region(bar, 0x2000, page).empty());
  EXPECT_TRUE(device->map_region(bar, 0x1000, 3 * page).empty());
  EXPECT_FALSE(device->map_region(bar, 0x3000, page).empty());
}

TEST(KernelDevice, VectorsAreAddedOneByOneWhetherTheKernelCanGrowThemOrNot) {
  for (const bool dynamic : {true, false}) {
    group_rig on{{.functions = {{.irqs = {.dynamic_msix = dynamic}}}}};
    const auto device = on.open();
    const std::array events{make_eventfd(), make_eventfd()};
    for (const std::uint32_t vector : {0U, 1U}) {
      const std::array fds{events[vector].get()};
      EXPECT_EQ(finish(*device, device->set_irqs(msix, vector, fds)).status, good) << dynamic;
    }
    EXPECT_EQ(on.function().irqs.allocated(), dynamic ? 2U : 65U);
    on.function().irqs.raise(msix, 1);
    EXPECT_EQ(fired(events[0]), 0U);
    EXPECT_EQ(fired(events[1]), 1U);
    EXPECT_EQ(finish(*device, device->set_irqs(msix, 65, {})).status, good);
    on.function().irqs.raise(msix, 1);
    EXPECT_EQ(fired(events[1]), 0U);
    EXPECT_EQ(finish(*device, device->set_irqs(msix, 0, {})).status, good) << "off already";
  }
}

TEST(KernelDevice, AMachineWithFewVectorsLeftGivesThoseThatAreUsed) {
  group_rig on{{.functions = {{.irqs = {.dynamic_msix = false, .available = 3}}}}};
  const auto device = on.open();
  const std::array events{make_eventfd(), make_eventfd(), make_eventfd()};
  const std::array fds{events[0].get(), events[1].get(), events[2].get()};
  EXPECT_EQ(finish(*device, device->set_irqs(msix, 1, fds)).status, (error{errc::os, ENOSPC}));
  const auto two = std::span{fds}.first(2);
  EXPECT_EQ(finish(*device, device->set_irqs(msix, 1, two)).status, good);
  EXPECT_EQ(on.function().irqs.allocated(), 3U);
  on.function().irqs.raise(msix, 2);
  EXPECT_EQ(fired(events[1]), 1U);
}

TEST(KernelDevice, InterruptsThatThereAreNotAreInvalid) {
  group_rig on;
  const auto device = on.open();
  const auto event = make_eventfd();
  const std::array fds{event.get()};
  EXPECT_EQ(device->set_irqs(msix, 65, fds).error().code, errc::invalid);
  EXPECT_EQ(device->set_irqs(7, 0, fds).error().code, errc::invalid);
  EXPECT_EQ(device->set_irqs(7, 0, {}).error().code, errc::invalid);
  EXPECT_EQ(device->set_irqs(~0U, 0, {}).error().code, errc::invalid);
  EXPECT_EQ(finish(*device, device->set_irqs(msix, 0, fds)).status, good);
  EXPECT_EQ(finish(*device, device->set_irqs(0, 0, fds)).status, (error{errc::os, EINVAL}))
      << "INTx beside MSI-X";
}

TEST(KernelDevice, AResetIsDoneElsewhere) {
  group_rig on;
  const auto device = on.open();
  EXPECT_EQ(finish(*device, device->region_write(bar, 32, bytes_of(5))).status, good);
  on.calls.at_once = false;
  const auto resetting = device->reset();
  ASSERT_TRUE(resetting.has_value());
  EXPECT_EQ(device->reset().error().code, errc::busy) << "one at a time";
  EXPECT_EQ(device->region_read(bar, 32, 4).error().code, errc::busy) << "what is there is no data";
  EXPECT_EQ(device->region_post(bar, 32, bytes_of(6)).error().code, errc::busy);
  device->advance(on.now);
  EXPECT_FALSE(device->take(*resetting).has_value());
  on.calls.run_all();
  EXPECT_EQ(device->advance(on.now), on.now);
  EXPECT_EQ(finish(*device, resetting).status, good);
  EXPECT_EQ(finish(*device, device->region_read(bar, 32, 4)).value, 0U);
}

TEST(KernelDevice, AResetThatIsLateTimesOutAndMayEndLater) {
  group_rig on;
  const auto device = on.open();
  on.calls.at_once = false;
  const auto resetting = device->reset();
  const instant deadline = device->advance(on.now);
  EXPECT_EQ(deadline, on.now + kernel_device_options{}.reset_timeout);
  device->advance(deadline);
  EXPECT_EQ(finish(*device, resetting).status.code, errc::timed_out);
  on.calls.run_all();
  device->advance(deadline);
  on.calls.at_once = true;
  const auto again = device->reset();
  device->advance(deadline);
  EXPECT_EQ(finish(*device, again).status, good);
}

TEST(KernelDevice, ADeviceThatGoesDuringAResetLeavesNothing) {
  group_rig on;
  auto device = on.open();
  on.calls.at_once = false;
  ASSERT_TRUE(device->reset().has_value());
  device.reset();
  on.domain.reset();
  EXPECT_NE(on.kernel.held(), sim::fake_kernel::leaks{});
  on.calls.run_all();
  EXPECT_EQ(on.kernel.held(), sim::fake_kernel::leaks{});
}

TEST(KernelDevice, FeaturesAreTheKernels) {
  namespace flag = uapi::feature_flags;
  group_rig on{{.functions = {{.has_virtual_functions = true}}}};
  const auto device = on.open();
  const auto ask = [&](std::uint32_t flags, std::size_t bytes) {
    const std::vector<std::byte> data(bytes);
    return finish(*device, device->device_feature(flags, data)).status;
  };
  EXPECT_EQ(ask(uapi::features::pci_vf_token | flag::set, 16), good);
  EXPECT_EQ(ask(uapi::features::pci_vf_token | flag::set, 15), (error{errc::os, EINVAL}));
  EXPECT_EQ(ask(uapi::features::dma_buf | flag::probe, 0), (error{errc::os, ENOTTY}));
  EXPECT_EQ(ask(0, device_transport::transfer_bytes_max + 1).code, errc::invalid);
}

TEST(KernelDevice, SixtyFourOperationsFitAndOneMoreIsNotCarriedOut) {
  group_rig on;
  const auto device = on.open();
  std::vector<ticket> tickets;
  for (std::size_t i = 0; i < device_transport::operations_max; ++i) {
    tickets.push_back(*device->region_write(bar, 0, bytes_of(1)));
  }
  EXPECT_EQ(device->region_write(bar, 0, bytes_of(2)).error().code, errc::queue_full);
  EXPECT_EQ(on.function().bar()[0], std::byte{1});
  std::ranges::for_each(tickets, [&](ticket each) { device->abandon(each); });
  EXPECT_EQ(finish(*device, device->region_write(bar, 0, bytes_of(2))).status, good);
}

}  // namespace
}  // namespace runnel::vfio
