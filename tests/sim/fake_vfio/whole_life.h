#pragma once

#include <gtest/gtest.h>
#include <sys/eventfd.h>

#include <array>
#include <cstddef>
#include <cstdint>

#include "mempool/base/unique_fd.h"
#include "mempool/region.h"
#include "tests/sim/edge_numbers.h"
#include "tests/sim/fake_vfio/dma_memory.h"
#include "tests/sim/fake_vfio/kernel.h"

namespace runnel::sim {

/// All that is done with a device of a rig, by every system call there is, however far it comes.
template <class Rig>
void live(Rig& on, const region& piece) {
  if (on.domain == nullptr) {
    EXPECT_FALSE(on.refused->message().empty());
    return;
  }
  constexpr std::uint32_t msix = 2;
  constexpr std::uint32_t req = 4;
  constexpr std::uint32_t config = 7;
  const auto device = on.open();
  device->advance(on.now);
  if (device->state() == vfio::transport_state::gone) {
    EXPECT_FALSE(device->reason().message().empty());
    return;
  }
  const bool is_mapped = finish(on.domain->map(piece)) == good;
  static_cast<void>(device->map_region(0, 0x1000, page));
  const unique_fd event{::eventfd(0, EFD_NONBLOCK)};
  const std::array fds{event.get()};
  const std::array command{std::byte{6}, std::byte{0}};
  static_cast<void>(finish(*device, device->set_irqs(msix, 0, fds)));
  static_cast<void>(finish(*device, device->trigger_irqs({.index = msix, .start = 0, .count = 1})));
  static_cast<void>(finish(*device, device->region_write(config, 4, command)));
  static_cast<void>(finish(*device, device->region_read(config, 0, 4)));
  const auto resetting = device->reset();
  device->advance(on.now);
  static_cast<void>(finish(*device, resetting));
  const auto resetting_bus = device->hot_reset();
  device->advance(on.now);
  static_cast<void>(finish(*device, resetting_bus));
  if (is_mapped && finish(on.domain->unmap(piece)) != good) {
    EXPECT_NE(on.kernel.under.account.charged, 0U) << "still the device's: not to be used again";
  }
  on.function().irqs.raise(req, 0);  // the kernel wants it back
  device->advance(device->advance(on.now));
  const bool absent = on.kernel.fails.number == EINVAL;  // such an interrupt, may the kernel say
  EXPECT_TRUE(device->state() == vfio::transport_state::gone || absent);
}

/// A life in which each system call fails in turn, in several ways, after one in which none does:
/// nothing is left of any.
/// @param make  a rig whose kernel fails as it is told: std::unique_ptr<Rig>(fake_kernel::plan)
template <class Make>
void expect_nothing_left_whichever_call_fails(const region& piece, const Make& make) {
  std::size_t calls = 0;
  for (std::size_t nth = 0; nth <= calls; ++nth) {  // there is no call 0
    for (const int number : {EIO, ENOMEM, EBUSY, EINVAL}) {
      const auto on = make(fake_kernel::plan{.call = nth, .number = number});
      live(*on, piece);
      on->domain.reset();
      EXPECT_EQ(on->kernel.held(), fake_kernel::leaks{}) << "call " << nth << " failed";
      if (nth == 0) {
        calls = on->kernel.calls;
        EXPECT_EQ(on->kernel.operations_left_out(), 1U) << "where memory is: noiommu_domain_test";
      }
    }
  }
}

}  // namespace runnel::sim
