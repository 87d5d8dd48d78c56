// Goal: a device that goes, in order or not, leaves nothing of its own mapped and nothing of
// others' unmapped. Method: two shares of a fake kernel's domain.
#include "drivers/vfio/domain_share.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <memory>

#include "tests/sim/fake_vfio/cdev_rig.h"
#include "tests/sim/fake_vfio/dma_memory.h"

namespace runnel::vfio {
namespace {

using sim::cdev_rig;
using sim::dma_memory;
using sim::finish;
using sim::page;

class DomainShare : public testing::Test {
 protected:
  [[nodiscard]] std::uint64_t pinned() const { return on.kernel.held().pinned; }

  cdev_rig on;
  std::unique_ptr<kernel_device> device = on.open();
  std::unique_ptr<domain_share> one = std::make_unique<domain_share>(*on.domain);
  std::unique_ptr<domain_share> other = std::make_unique<domain_share>(*on.domain);
  dma_memory memory;
  const region piece = memory.piece(0, 2);
};

TEST_F(DomainShare, WhatADeviceLeavesIsGivenBackAndOthersKeepTheirs) {
  ASSERT_EQ(finish(*one, one->map(piece)), error{});
  ASSERT_EQ(finish(*one, one->map(memory.piece(4, 1))), error{});
  ASSERT_EQ(finish(*other, other->map(piece)), error{});
  EXPECT_EQ(pinned(), 3 * page);
  one.reset();
  EXPECT_EQ(pinned(), 2 * page);
  other.reset();
  EXPECT_EQ(pinned(), 0U);
}

TEST_F(DomainShare, WhoWasLetGoIsToldThatTheDeviceIsGone) {
  ASSERT_EQ(finish(*one, one->map(piece)), error{});
  const auto under_way = one->map(memory.piece(4, 1));
  one->let_go();
  EXPECT_EQ(pinned(), 0U);
  EXPECT_EQ(one->map(piece).error().code, errc::device_gone);
  EXPECT_EQ(one->unmap(piece).error().code, errc::device_gone);
  EXPECT_EQ(finish(*one, under_way), error{}) << "its end can still be taken";
}

TEST_F(DomainShare, NobodyUnmapsWhatOnlyOthersHave) {
  ASSERT_EQ(finish(*other, other->map(piece)), error{});
  EXPECT_EQ(one->unmap(piece).error().code, errc::invalid);
  EXPECT_EQ(pinned(), piece.length);
  EXPECT_EQ(finish(*other, other->unmap(piece)), error{});
  EXPECT_EQ(other->unmap(piece).error().code, errc::invalid) << "once";
}

TEST_F(DomainShare, WhatCouldNotBeMappedIsNotItsOwn) {
  on.kernel.fails.call = on.kernel.calls + 1;
  EXPECT_EQ(finish(*one, one->map(piece)), (error{errc::os, EIO}));
  EXPECT_EQ(one->unmap(piece).error().code, errc::invalid);
}

TEST_F(DomainShare, WhatCouldNotBeUnmappedIsNobodysAndInTheWay) {
  ASSERT_EQ(finish(*one, one->map(piece)), error{});
  on.kernel.fails.call = on.kernel.calls + 1;
  EXPECT_EQ(finish(*one, one->unmap(piece)), (error{errc::os, EIO}));
  EXPECT_EQ(one->unmap(piece).error().code, errc::invalid);
  EXPECT_EQ(other->map(piece).error().code, errc::invalid) << "the device may reach what was there";
  EXPECT_EQ(pinned(), piece.length);
}

}  // namespace
}  // namespace runnel::vfio
