// Goal: what a device may reach is the same whichever way it came: what can be mapped, what not,
// and that nothing is left of it. Method: maps of a domain of each kind, and what the process
// holds before and after.
#include <cerrno>
#include <vector>

#include "tests/sim/conformance/suite.h"

namespace runnel::sim {
namespace {

class MemoryConformance : public Conformance {
 protected:
  static constexpr std::uint64_t bus = lent_memory::bus;

  /// All that a device can hold: memory mapped both ways, eventfds.
  void use(const lent_memory& memory, const listeners& ears) {
    EXPECT_EQ(map(memory.piece(0, 2)), good);
    EXPECT_EQ(end(device().set_irqs(msix, 0, ears.fds())), good);
    const auto& areas = device().region_at(bar).areas;
    EXPECT_FALSE(device().map_region(bar, areas.front().offset, page).empty());
  }
};

INSTANTIATE_TEST_SUITE_P(Each, MemoryConformance, testing::ValuesIn(subject_kinds()),
                         [](const auto& kind) { return kind.param.name; });

TEST_P(MemoryConformance, WhatIsMappedIsUnmappedAndMayComeBack) {
  const lent_memory memory{4};
  for (const bool with_file : {true, false}) {
    for (const access allowed : {access::read_write, access::read}) {
      region whole = memory.piece(0, 4);
      whole.fd = with_file ? whole.fd : -1;
      whole.permissions = allowed;
      for (int i = 0; i < 2; ++i) {
        ASSERT_EQ(map(whole), good);
        ASSERT_EQ(unmap(whole), good);
      }
    }
  }
  EXPECT_EQ(unmap(memory.piece(0, 4)).code, errc::invalid) << "it is not mapped";
}

TEST_P(MemoryConformance, MapsThatMakeNoSenseAreInvalid) {
  const lent_memory memory{8};
  ASSERT_EQ(map(memory.piece(2, 3)), good);
  EXPECT_EQ(map(memory.piece(1, 2)).code, errc::invalid) << "over its beginning";
  EXPECT_EQ(map(memory.piece(3, 1)).code, errc::invalid) << "inside";
  EXPECT_EQ(map(memory.piece(4, 2)).code, errc::invalid) << "over its end";
  EXPECT_EQ(map(memory.piece(0, 8)).code, errc::invalid) << "around it";
  EXPECT_EQ(unmap(memory.piece(2, 2)).code, errc::invalid) << "a part";
  EXPECT_EQ(unmap(memory.piece(6, 1)).code, errc::invalid) << "a hole";
  region odd = memory.piece(0, 1);
  odd.length = page / 2;
  EXPECT_EQ(map(odd).code, errc::invalid);
  EXPECT_EQ(map(memory.piece(0, 1, bus + 8)).code, errc::invalid) << "on no page";
  region closed = memory.piece(0, 1);
  closed.permissions = access::none;
  EXPECT_EQ(map(closed).code, errc::invalid);
  region nothing = memory.piece(0, 1);
  nothing.length = 0;
  EXPECT_EQ(map(nothing).code, errc::invalid);
  EXPECT_EQ(map(memory.piece(0, 2)), good) << "up to it";
  EXPECT_EQ(map(memory.piece(5, 1)), good) << "from its end";
}

TEST_P(MemoryConformance, RangesAreReachedToTheirEdgesAndNotBeyond) {
  const lent_memory memory{1};
  const auto ranges = domain().allowed_ranges();
  ASSERT_FALSE(ranges.empty());
  for (const vfio::iova_range& each : ranges) {
    const std::uint64_t first = each.first;
    const std::uint64_t last_page = each.last - (page - 1);
    for (const std::uint64_t inside : {first, last_page}) {
      const region edge = memory.piece(0, 1, inside);
      ASSERT_EQ(map(edge), good) << inside;
      ASSERT_EQ(unmap(edge), good) << inside;
    }
    if (each.last != top) {
      EXPECT_EQ(map(memory.piece(0, 1, each.last + 1)).code, errc::invalid) << each.last;
    }
  }
  if (is_kernel()) {
    EXPECT_EQ(ranges.size(), 2U) << "below and above the window of interrupts";
    EXPECT_EQ(map(memory.piece(0, 1, 0xfee0'0000)).code, errc::invalid);
  }
}

TEST_P(MemoryConformance, MapsAreMadeUpToTheLimitAndNotBeyond) {
  const std::uint32_t most = domain().limits().maps_max;
  EXPECT_EQ(domain().limits().page_bytes, page);
  EXPECT_GE(most, 16U);
  if (most > 1024) {
    GTEST_SKIP() << most << " maps are too many to be made here";
  }
  const lent_memory memory{most + 1};
  for (std::uint32_t i = 0; i < most; ++i) {
    ASSERT_EQ(map(memory.piece(i, 1)), good) << i;
  }
  EXPECT_EQ(map(memory.piece(most, 1)).code, errc::no_memory);
  ASSERT_EQ(unmap(memory.piece(0, 1)), good);
  EXPECT_EQ(map(memory.piece(most, 1)), good);
}

TEST_P(MemoryConformance, PinsAreCountedWhileMemoryIsMapped) {
  const lent_memory memory{4};
  const std::uint64_t before = under->held().pinned;
  ASSERT_EQ(map(memory.piece(0, 4)), good);
  if (under->counts_pins()) {
    EXPECT_EQ(under->held().pinned, before + 4 * page);
  }
  ASSERT_EQ(unmap(memory.piece(0, 4)), good);
  EXPECT_EQ(under->held().pinned, before);
}

TEST_P(MemoryConformance, ADomainOutlivesItsDeviceAndServesTheNext) {
  const lent_memory memory{2};
  ASSERT_EQ(map(memory.piece(0, 2)), good);
  if (!under->close_device()) {
    GTEST_SKIP() << "device and domain are one";
  }
  open();
  EXPECT_EQ(domain().allowed_ranges().size(), 2U);
  EXPECT_EQ(map(memory.piece(0, 2)), good) << "whether or not the domain has kept it";
  EXPECT_EQ(unmap(memory.piece(0, 2)), good);
}

TEST_P(MemoryConformance, NothingIsLeftWhenAllIsClosed) {
  const lent_memory memory{2};
  const listeners ears{2};
  const auto live_once = [&] {
    use(memory, ears);
    const holdings during = under->held();
    under->close();
    return during;
  };
  live_once();  // threads and heaps that stay have come
  const holdings before = under->held();
  for (int i = 0; i < 3; ++i) {
    open();
    const holdings during = live_once();
    EXPECT_GT(during.fds, before.fds);
    EXPECT_GT(during.maps, before.maps);
    EXPECT_EQ(under->held(), before) << i;
  }
}

TEST_P(MemoryConformance, NothingIsLeftWhenADeviceGoesWithAllThatItHolds) {
  const lent_memory memory{2};
  const listeners ears{2};
  if (!is_kernel()) {
    GTEST_SKIP() << "device and domain are one";
  }
  under->close_device();
  open();
  under->close_device();
  const holdings before = under->held();
  open();
  use(memory, ears);
  ASSERT_EQ(unmap(memory.piece(0, 2)), good) << "as the driver does, for the domain may keep it";
  under->close_device();
  const holdings after = under->held();
  EXPECT_EQ(after.maps, before.maps);
  EXPECT_EQ(after.pinned, before.pinned);
}

}  // namespace
}  // namespace runnel::sim
