// Goal: a vfio-user client hears of every answer that it waits for: by MSI-X vector or by the pin,
// masked and unmasked, with its eventfds in place or not yet.
// Method: our vfio-user client and the server in one thread over a channel in memory.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "apps/target/fake_client.h"

namespace runnel::target {
namespace {

using fake::number;
using vfio::pci_irq;
using vfio::pci_region;

class VfioUserInterrupts : public fake::served_controller {};

TEST_F(VfioUserInterrupts, MsixVectorsReachTheirEventfds) {
  unique_fd admin_event{eventfd(0, EFD_NONBLOCK)};
  unique_fd io_event{eventfd(0, EFD_NONBLOCK)};
  const int fds[] = {admin_event.get(), -1, io_event.get()};
  ASSERT_TRUE(succeeds(client->set_irqs(number(pci_irq::msix), 0, std::span{fds}.first(1))));
  ASSERT_TRUE(succeeds(client->set_irqs(number(pci_irq::msix), 2, std::span{fds}.last(1))));
  write<std::uint16_t>(pci_region::config, 0x86, 0x8000);
  map_ram();
  enable();
  make_queues(3 | 2U << 16U);
  eventfd_t count = 0;
  EXPECT_EQ(eventfd_read(admin_event.get(), &count), 0);
  EXPECT_NE(eventfd_read(io_event.get(), &count), 0);
  submit(nvme::io_opcode::read, 1);
  EXPECT_EQ(eventfd_read(io_event.get(), &count), 0);

  // Masked, the interrupt is pending, and the pending bit says so.
  ring(3, 1);
  write<std::uint16_t>(pci_region::config, 0x86, 0xc000);
  submit(nvme::io_opcode::read, 2);
  EXPECT_NE(eventfd_read(io_event.get(), &count), 0);
  EXPECT_EQ(read<std::uint64_t>(pci_region::bar5, 0), 1U << 2U);
  write<std::uint16_t>(pci_region::config, 0x86, 0x8000);
  EXPECT_EQ(eventfd_read(io_event.get(), &count), 0);
  EXPECT_EQ(read<std::uint64_t>(pci_region::bar5, 0), 0U);
}

TEST_F(VfioUserInterrupts, AVectorWithAnEventfdIsUsedWithoutAWordInConfigurationSpace) {
  unique_fd event{eventfd(0, EFD_NONBLOCK)};
  const int fd = event.get();
  ASSERT_TRUE(succeeds(client->set_irqs(number(pci_irq::msix), 2, {&fd, 1})));
  map_ram();
  enable();
  make_queues(3 | 2U << 16U);
  eventfd_t count = 0;
  EXPECT_NE(eventfd_read(event.get(), &count), 0);
  submit(nvme::io_opcode::read, 1);
  EXPECT_EQ(eventfd_read(event.get(), &count), 0);
}

TEST_F(VfioUserInterrupts, VectorsThatTheClientTriesOutFireAlthoughTheyAreMasked) {
  const vfio::irq_vectors first_two{.index = number(pci_irq::msix), .start = 0, .count = 2};
  EXPECT_FALSE(succeeds(client->trigger_irqs(first_two))) << "nobody would hear it";
  unique_fd event{eventfd(0, EFD_NONBLOCK)};
  const int fd = event.get();
  ASSERT_TRUE(succeeds(client->set_irqs(number(pci_irq::msix), 1, {&fd, 1})));
  write<std::uint16_t>(pci_region::config, 0x86, 0xc000);
  EXPECT_TRUE(succeeds(client->trigger_irqs(first_two)));
  eventfd_t count = 0;
  EXPECT_EQ(eventfd_read(event.get(), &count), 0);
  EXPECT_EQ(read<std::uint64_t>(pci_region::bar5, 0), 0U) << "vector 0 is not owed either";
}

TEST_F(VfioUserInterrupts, AVectorWithoutEventfdIsToldWhenItGetsOne) {
  write<std::uint16_t>(pci_region::config, 0x86, 0x8000);
  map_ram();
  enable();
  make_queues();
  unique_fd event{eventfd(0, EFD_NONBLOCK)};
  const int fd = event.get();
  ASSERT_TRUE(succeeds(client->set_irqs(number(pci_irq::msix), 0, {&fd, 1})));
  eventfd_t count = 0;
  EXPECT_EQ(eventfd_read(event.get(), &count), 0);
}

TEST_F(VfioUserInterrupts, AnEventfdThatIsFullAndBlockingAgainHoldsNobodyUp) {
  unique_fd event{eventfd(0, 0)};
  const int fd = event.get();
  ASSERT_TRUE(succeeds(client->set_irqs(number(pci_irq::msix), 0, {&fd, 1})));
  ASSERT_EQ(fcntl(fd, F_SETFL, 0), 0);
  ASSERT_EQ(eventfd_write(fd, ~eventfd_t{0} - 1), 0);
  write<std::uint16_t>(pci_region::config, 0x86, 0x8000);
  map_ram();
  enable();
  make_queues();  // answered, each with an interrupt
}

TEST_F(VfioUserInterrupts, OnlyEventfdsAreTakenForInterrupts) {
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  const unique_fd reader{ends[0]};
  const unique_fd writer{ends[1]};
  EXPECT_FALSE(succeeds(client->set_irqs(number(pci_irq::msix), 0, {&ends[1], 1})));
}

TEST_F(VfioUserInterrupts, ThePinIsToldOnceUntilItIsUnmasked) {
  unique_fd event{eventfd(0, EFD_NONBLOCK)};
  const int fd = event.get();
  ASSERT_TRUE(succeeds(client->set_irqs(number(pci_irq::intx), 0, {&fd, 1})));
  map_ram();
  enable();
  make_queues();
  eventfd_t count = 0;
  ASSERT_EQ(eventfd_read(event.get(), &count), 0);
  EXPECT_EQ(count, 1U);  // two answers unread, one message
  endpoint->mask_irq(number(pci_irq::intx), false);
  ASSERT_EQ(eventfd_read(event.get(), &count), 0);  // still unread
  ring(1, 2);
  endpoint->mask_irq(number(pci_irq::intx), false);
  EXPECT_NE(eventfd_read(event.get(), &count), 0);
}

}  // namespace
}  // namespace runnel::target
