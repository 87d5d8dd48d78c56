// Goal: an address of a PCI device leads to the device, the way that is asked for or the best there
// is, and devices that come the same way share an address space. Method: a fake kernel and a fake
// machine that tell of the same devices; the threads are real.
#include "runtime/io/vfio_host.h"

#include <gtest/gtest.h>
#include <poll.h>

#include <string>

#include "drivers/pci/machine_for_tests.h"
#include "mempool/base/clock.h"
#include "runtime/cores.h"
#include "tests/sim/fake_vfio/dma_memory.h"
#include "tests/sim/fake_vfio/kernel.h"

namespace runnel::io {
namespace {

using vfio::transport_state;

class VfioHost : public testing::Test {
 protected:
  VfioHost() {
    for (const auto& each : kernel.under.functions) {
      add(each->options);
    }
    machine.file("/dev/iommu", "");
  }
  void add(const sim::function_options& is) {
    machine.add(is.address, {.driver = "vfio-pci", .group = is.group});
    machine.folder("/sys/bus/pci/devices/" + is.address + "/vfio-dev/" + is.node);
    machine.file("/dev/vfio/" + std::to_string(is.group), "");
    machine.file("/dev/vfio/devices/" + is.node, "");
  }

  /// A device that is ready, or gone.
  [[nodiscard]] vfio_host::access open(const std::string& text) {
    auto opened = host.open(*parse_address(text), memory);
    EXPECT_TRUE(opened.has_value()) << (opened ? "" : opened.error().message());
    while (opened->transport->advance(clock.now()) != never &&
           opened->transport->state() == transport_state::connecting) {
      pollfd wait{.fd = opened->transport->event_fd(), .events = POLLIN, .revents = 0};
      ::poll(&wait, 1, 1000);
    }
    return std::move(*opened);
  }
  [[nodiscard]] std::string refusal(const std::string& text) {
    const auto opened = host.open(*parse_address(text), memory);
    EXPECT_FALSE(opened.has_value());
    return opened ? "" : opened.error().message();
  }

  pci::machine_for_tests machine;
  sim::fake_kernel kernel{
      {.functions = {{}, {.address = "0000:02:00.0", .group = 13, .node = "vfio1"}}}};
  const std::string first = "pci:" + kernel.under.functions[0]->options.address;
  const tsc_clock clock;
  window memory = std::move(*window::create({.bytes = huge_bytes}));
  vfio_host host{*allowed_cores(), kernel, machine.files()};
};

TEST_F(VfioHost, ADeviceComesTheBestWayAndTheNextBestWithANote) {
  {
    const auto best = open(first);
    EXPECT_EQ(best.transport->state(), transport_state::ready);
    EXPECT_TRUE(kernel.under.functions[0]->by_cdev);
    EXPECT_EQ(best.note, "");
  }
  machine.remove("/dev/iommu");
  const auto other = open("pci:0000:02:00.0");
  EXPECT_EQ(other.transport->state(), transport_state::ready);
  EXPECT_FALSE(kernel.under.functions[1]->by_cdev);
  EXPECT_EQ(other.note, "by its group, not by its node: there is no /dev/iommu");
}

TEST_F(VfioHost, TheWayThatIsAskedForIsTaken) {
  for (const char* via : {"cdev", "group", "compat"}) {
    const auto device = open(first + "?via=" + via);
    EXPECT_EQ(device.transport->state(), transport_state::ready) << via;
    EXPECT_EQ(kernel.under.functions[0]->by_cdev, std::string{via} == "cdev");
    EXPECT_EQ(device.note, "");
  }
}

TEST_F(VfioHost, DevicesThatComeTheSameWayShareAnAddressSpace) {
  for (const std::string via : {"?via=cdev", "?via=group"}) {
    auto one = open(first + via);
    auto other = open("pci:0000:02:00.0" + via);
    sim::dma_memory shared;
    const region piece = shared.piece(0, 2);
    for (const vfio_host::access* each : {&one, &other}) {
      const auto mapped = each->domain->map(piece);
      ASSERT_TRUE(mapped.has_value());
      EXPECT_EQ(each->domain->take(*mapped)->status, error{});
    }
    EXPECT_EQ(kernel.held().pinned, piece.length) << "once";
    one.transport.reset();
    EXPECT_EQ(kernel.held().pinned, piece.length) << "the other has it";
    other.transport.reset();
    EXPECT_EQ(kernel.held().pinned, 0U);
  }
}

TEST_F(VfioHost, WhatCannotBeOpenedIsNamedWithARemedy) {
  machine.add("0000:03:00.0", {.driver = "nvme", .group = 14});
  EXPECT_EQ(refusal("pci:0000:03:00.0"),
            "open pci:0000:03:00.0: not supported; it is bound to nvme; `runnel bind "
            "0000:03:00.0`");
  EXPECT_NE(refusal("pci:0000:04:00.0").find("pci:0000:04:00.0"), std::string::npos);
  EXPECT_NE(refusal(first + "?via=noiommu").find("behind an IOMMU"), std::string::npos);
}

TEST_F(VfioHost, WithoutAnIommuItMustBeAskedForAndMemoryMustStay) {
  machine.add("0000:03:00.0", {.driver = "vfio-pci", .group = 14});
  machine.file("/sys/kernel/iommu_groups/14/name", "vfio-noiommu\n");
  machine.file("/dev/vfio/noiommu-14", "");
  EXPECT_NE(refusal("pci:0000:03:00.0").find("only when asked for, by via=noiommu"),
            std::string::npos);
  kernel.under.functions[1]->options.no_iommu = true;
  memory = std::move(*window::create({.bytes = mib, .huge = false}));
  const std::string why = refusal("pci:0000:03:00.0?via=noiommu");
  EXPECT_NE(why.find("place memory for pci:0000:03:00.0"), std::string::npos) << why;
  EXPECT_NE(why.find("vm.nr_hugepages"), std::string::npos) << why;
}

}  // namespace
}  // namespace runnel::io
