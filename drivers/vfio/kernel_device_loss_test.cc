// Goal: a device that its kernel wants back is let go whole, whoever uses it, and is not called
// gone while it may reach memory; one that failed says so. Method: devices of the fake kernel,
// whose blocking calls are made when the test says so.
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <iterator>
#include <string>

#include "drivers/mmio.h"
#include "drivers/vfio/kernel_device.h"
#include "mempool/sigbus.h"
#include "tests/sim/fake_vfio/cdev_rig.h"
#include "tests/sim/fake_vfio/group_rig.h"

namespace runnel::vfio {
namespace {

using sim::cdev_rig;
using sim::dma_memory;
using sim::finish;
using sim::good;
using sim::group_rig;
using sim::page;
using sim::pci_function;

constexpr auto err_irq = static_cast<std::uint32_t>(pci_irq::err);
constexpr auto req_irq = static_cast<std::uint32_t>(pci_irq::req);
constexpr std::uint32_t config_region = 7;

[[nodiscard]] bool wakes(const kernel_device& device) {
  pollfd waits{.fd = device.event_fd(), .events = POLLIN, .revents = 0};
  return ::poll(&waits, 1, 0) == 1;
}

void let_master_the_bus(kernel_device& device) {
  const auto command = std::bit_cast<std::array<std::byte, 2>>(std::uint16_t{0x0106});
  EXPECT_EQ(finish(device, device.region_write(config_region, 4, command)).status, good);
}

TEST(KernelDeviceLoss, WhatTheKernelWantsBackIsLetGoWhileItsUsersHaveItsAddresses) {
  group_rig on;
  auto device = on.open();
  ASSERT_EQ(device->state(), transport_state::ready);
  dma_memory memory;
  ASSERT_EQ(finish(on.domain->map(memory.piece(0, 1))), good);
  let_master_the_bus(*device);
  const auto registers = device->map_region(0, 0x1000, page);
  registers[4] = std::byte{42};
  EXPECT_FALSE(wakes(*device));

  on.calls.at_once = false;
  on.function().irqs.raise(req_irq, 0);
  EXPECT_TRUE(wakes(*device));
  device->advance(on.now);
  ASSERT_EQ(device->state(), transport_state::leaving);
  EXPECT_FALSE(wakes(*device));
  EXPECT_NE(device->reason().message().find("pci:0000:01:00.0"), std::string::npos);
  EXPECT_NE(device->reason().message().find("the kernel takes it back"), std::string::npos);
  EXPECT_EQ(device->region_read(0, 0, 4).error().code, errc::busy);
  EXPECT_TRUE(device->map_region(0, 0x1000, page).empty());
  EXPECT_NE(on.kernel.dma(on.function(), dma_memory::bus, 8, access::write), nullptr)
      << "it is not closed: it may still write";

  on.calls.run_all();
  EXPECT_TRUE(wakes(*device));
  EXPECT_EQ(device->advance(on.now), never);
  ASSERT_EQ(device->state(), transport_state::gone);
  EXPECT_EQ(on.kernel.dma(on.function(), dma_memory::bus, 8, access::write), nullptr);
  EXPECT_EQ(on.function().opened, 0) << "what `unbind` waits for";
  EXPECT_EQ(on.kernel.held().fds, 1U) << "older kernels wait for the group, too";
  EXPECT_EQ(device->region_read(0, 0, 4).error().code, errc::device_gone);
  EXPECT_EQ(std::ranges::count(registers, std::byte{0xff}), std::ssize(registers));
  registers[4] = std::byte{43};
  EXPECT_EQ(on.function().bar()[0x1004], std::byte{0}) << "it was reset, and is not ours";
  EXPECT_FALSE(wakes(*device));
  device.reset();
  on.domain.reset();
  EXPECT_EQ(on.kernel.held(), sim::fake_kernel::leaks{});
}

TEST(KernelDeviceLoss, ADeviceByItsNodeIsLetGoAndItsDomainServesOthers) {
  cdev_rig on{{.functions = {{}, {.address = "0000:02:00.0", .group = 13, .node = "vfio1"}}}};
  const auto device = on.open(0);
  const auto other = on.open(1);
  dma_memory memory;
  ASSERT_EQ(finish(on.domain->map(memory.piece(0, 1))), good);
  let_master_the_bus(*other);
  on.function(0).irqs.raise(req_irq, 0);
  device->advance(on.now);
  EXPECT_EQ(device->state(), transport_state::gone);
  EXPECT_EQ(on.function(0).opened, 0);
  EXPECT_EQ(other->state(), transport_state::ready);
  EXPECT_NE(on.kernel.dma(on.function(1), dma_memory::bus, 8, access::write), nullptr);
}

TEST(KernelDeviceLoss, WhatIsGivenBackIsClosedAndGone) {
  group_rig on;
  const auto device = on.open();
  ASSERT_EQ(device->state(), transport_state::ready);
  on.calls.at_once = false;
  EXPECT_TRUE(device->give_back());
  device->advance(on.now);
  EXPECT_EQ(device->state(), transport_state::leaving);
  on.calls.run_all();
  device->advance(on.now);
  EXPECT_EQ(device->state(), transport_state::gone);
  EXPECT_NE(device->reason().message().find("given back"), std::string::npos);
  EXPECT_EQ(on.function().opened, 0);
  EXPECT_TRUE(device->give_back()) << "already";
}

TEST(KernelDeviceLoss, ItsDomainSaysThatItIsGone) {
  group_rig on;
  const auto device = on.open();
  iommu_domain& domain = device->domain();
  dma_memory memory;
  ASSERT_EQ(finish(domain, domain.map(memory.piece(0, 2))), good);
  on.function().irqs.raise(req_irq, 0);
  for (int i = 0; i < 3 && device->state() != transport_state::gone; ++i) {
    device->advance(on.now);
  }
  ASSERT_EQ(device->state(), transport_state::gone);
  EXPECT_EQ(on.kernel.held().pinned, 0U);
  EXPECT_EQ(domain.map(memory.piece(0, 2)).error().code, errc::device_gone);
  EXPECT_EQ(domain.unmap(memory.piece(0, 2)).error().code, errc::device_gone);
}

TEST(KernelDeviceLoss, OnesAreNoDevice) {
  group_rig on;
  on.function().vanish();
  auto device = on.open();
  ASSERT_EQ(device->state(), transport_state::gone);
  EXPECT_EQ(device->reason().what.code, errc::device_gone);
  EXPECT_NE(device->reason().message().find("does not answer"), std::string::npos);
  device.reset();
  on.domain.reset();
  EXPECT_EQ(on.kernel.held(), sim::fake_kernel::leaks{});
}

void repair_or_abort(int, siginfo_t* info, void*) {
  if (!handle_sigbus(*info)) {
    std::abort();
  }
}

TEST(KernelDeviceLoss, OnlyTheDeviceWhoseRegistersWentAwayIsGone) {
  group_rig on{{.functions = {{}, {.address = "0000:02:00.0", .group = 13}}}};
  const auto device = on.open(0);
  const auto other = on.open(1);
  const auto doorbells = device->map_region(0, 0x1000, page);
  const auto others = other->map_region(0, 0x1000, page);
  struct sigaction ours{};
  struct sigaction before{};
  ours.sa_sigaction = repair_or_abort;
  ours.sa_flags = SA_SIGINFO;
  ASSERT_EQ(::sigaction(SIGBUS, &ours, &before), 0);
  on.function(0).cut_off_bar();
  mmio_write<std::uint32_t>(doorbells.data(), 7);
  EXPECT_EQ(mmio_read<std::uint32_t>(doorbells.data() + 8), ~0U) << "no data";
  ASSERT_EQ(::sigaction(SIGBUS, &before, nullptr), 0);

  device->advance(on.now);
  EXPECT_EQ(device->state(), transport_state::gone);
  EXPECT_NE(device->reason().message().find("went away"), std::string::npos);
  EXPECT_EQ(on.function(0).opened, 0);
  other->advance(on.now);
  EXPECT_EQ(other->state(), transport_state::ready);
  others[0] = std::byte{5};
  EXPECT_EQ(on.function(1).bar()[0x1000], std::byte{5});
}

TEST(KernelDeviceLoss, NoMoreIsMappedThanSigbusCanBeToldOf) {
  group_rig on;
  const auto device = on.open();
  std::size_t count = 0;
  while (count < 100 && !device->map_region(0, 0x1000, page).empty()) {
    ++count;
  }
  EXPECT_EQ(count, sigbus_guard::ranges_max);
}

TEST(KernelDeviceLoss, ADeviceThatIsBeingResetLeavesAfterwards) {
  group_rig on;
  const auto device = on.open();
  on.calls.at_once = false;
  const auto resetting = device->reset();
  on.function().irqs.raise(req_irq, 0);
  device->advance(on.now);
  EXPECT_EQ(device->state(), transport_state::leaving);
  on.calls.run_all();
  device->advance(on.now);
  EXPECT_EQ(finish(*device, resetting).status, good);
  EXPECT_EQ(device->state(), transport_state::leaving);
  EXPECT_EQ(on.function().opened, 1);
  on.calls.run_all();
  device->advance(on.now);
  EXPECT_EQ(device->state(), transport_state::gone);
  EXPECT_EQ(on.function().opened, 0);
}

TEST(KernelDeviceLoss, ClosingIsTriedAgainWhereThereIsNoRoomForIt) {
  group_rig on;
  const auto device = on.open();
  on.calls.refuses = true;
  on.function().irqs.raise(req_irq, 0);
  const instant again = device->advance(on.now);
  EXPECT_EQ(device->state(), transport_state::leaving);
  EXPECT_GT(again, on.now);
  EXPECT_LE(again, on.now + std::chrono::milliseconds{10});
  on.calls.refuses = false;
  device->advance(again);
  EXPECT_EQ(device->state(), transport_state::gone);
}

TEST(KernelDeviceLoss, WhatIsStillMappedIsNotCalledGone) {
  group_rig on;
  const auto device = on.open();
  ASSERT_FALSE(device->map_region(0, 0x1000, page).empty());
  ASSERT_FALSE(device->map_region(0, 0x3000, page).empty());
  on.function().irqs.raise(req_irq, 0);
  on.kernel.fails = {.call = on.kernel.calls + 2, .number = ENOMEM};  // the second is not replaced
  const instant again = device->advance(on.now);
  EXPECT_EQ(device->state(), transport_state::leaving);
  EXPECT_EQ(on.function().opened, 1);
  EXPECT_EQ(on.kernel.held().bar_maps, 1U);
  EXPECT_GT(again, on.now);
  device->advance(again);
  EXPECT_EQ(device->state(), transport_state::gone);
  EXPECT_EQ(on.function().opened, 0);
}

TEST(KernelDeviceLoss, AnErrorOfTheDeviceIsReportedOnce) {
  group_rig on;
  const auto device = on.open();
  EXPECT_FALSE(device->take_error());
  on.function().irqs.raise(err_irq, 0);
  on.function().irqs.raise(err_irq, 0);
  EXPECT_TRUE(wakes(*device));
  device->advance(on.now);
  EXPECT_FALSE(wakes(*device));
  EXPECT_EQ(device->state(), transport_state::ready);
  EXPECT_TRUE(device->take_error());
  EXPECT_FALSE(device->take_error());
}

TEST(KernelDeviceLoss, AlarmsAreNobodyElsesAndNeedNotBeThere) {
  for (const std::uint32_t count : {0U, 1U}) {
    group_rig on{{.functions = {{.irqs = {.counts = {1, 32, 65, count, count}}}}}};
    const auto device = on.open();
    ASSERT_EQ(device->state(), transport_state::ready);
    for (const std::uint32_t index : {err_irq, req_irq}) {
      EXPECT_EQ(device->irq_at(index).count, 0U);
      EXPECT_EQ(device->set_irqs(index, 0, {}).error().code, errc::invalid);
    }
  }
}

TEST(KernelDeviceLoss, WhatWasDoneElsewhereWakesTheSameWaiter) {
  group_rig on;
  on.calls.at_once = false;
  const auto device = on.open();
  EXPECT_FALSE(wakes(*device));
  on.calls.run_all();
  EXPECT_TRUE(wakes(*device));
  device->advance(on.now);
  EXPECT_EQ(device->state(), transport_state::ready);
  EXPECT_FALSE(wakes(*device));
}

}  // namespace
}  // namespace runnel::vfio
