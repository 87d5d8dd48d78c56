// Goal: whatever a host writes into PRP1, PRP2 and lists, the walk finds exactly the bytes that the
// specification says, or refuses; it never leaves the host's memory and always ends.
// Method: a fake host memory with holes and read-only parts; tables of good and bad descriptions.

#include "apps/target/prp_walk.h"

#include <gtest/gtest.h>

#include <vector>

#include "apps/target/fake_host.h"

namespace runnel::target {
namespace {

using nvme::status_code;
constexpr std::uint64_t base = fake::memory::base;

class PrpWalk : public testing::Test {
 protected:
  PrpWalk() : ram{2 * mib}, view{ram} { ram.add(base, mib); }

  prp_segments walk(std::uint64_t prp1, std::uint64_t prp2, std::uint64_t bytes,
                    access wanted = access::write) {
    segments.assign(segments_for(bytes), {});
    return walk_prp(view, {.prp1 = prp1, .prp2 = prp2, .bytes = bytes, .wanted = wanted}, segments);
  }
  void write_list(std::uint64_t where, const std::vector<std::uint64_t>& entries) {
    std::memcpy(ram.at(where), entries.data(), entries.size() * 8);
  }
  std::size_t total(const prp_segments& found) const {
    std::size_t bytes = 0;
    for (std::size_t i = 0; i < found.count; ++i) {
      bytes += segments[i].length;
    }
    return bytes;
  }

  fake::memory ram;
  memory_view view;
  std::vector<segment> segments;
};

TEST_F(PrpWalk, OnePageNeedsOneSegmentAndIgnoresTheSecondPointer) {
  const prp_segments found = walk(base + 0x1200, ~std::uint64_t{0}, 512);
  ASSERT_EQ(found.status, status_code::success);
  ASSERT_EQ(found.count, 1U);
  EXPECT_EQ(segments[0].address, ram.at(base + 0x1200));
  EXPECT_EQ(segments[0].length, 512U);
}

TEST_F(PrpWalk, TheSecondPointerIsAPageWhenTwoPagesSuffice) {
  const prp_segments found = walk(base + 0x1e00, base + 0x8000, 4096);
  ASSERT_EQ(found.count, 2U);
  EXPECT_EQ(segments[0].length, 0x200U);
  EXPECT_EQ(segments[1].address, ram.at(base + 0x8000));
  EXPECT_EQ(segments[1].length, 4096U - 0x200U);
}

TEST_F(PrpWalk, PagesThatAdjoinBecomeOneSegment) {
  const prp_segments found = walk(base + 0x1000, base + 0x2000, 8192);
  ASSERT_EQ(found.count, 1U);
  EXPECT_EQ(segments[0].length, 8192U);
}

TEST_F(PrpWalk, PagesThatAdjoinInTwoRegionsStayTwoSegments) {
  ram.add(base + mib, 0x1000);
  const prp_segments found = walk(base + mib - 0x1000, base + mib, 8192);
  ASSERT_EQ(found.status, status_code::success);
  ASSERT_EQ(found.count, 2U);
  EXPECT_NE(segments[0].memory, segments[1].memory);
}

TEST_F(PrpWalk, AListMayBeginInsideAPage) {
  write_list(base + 0x10f8, {base + 0x20000});
  write_list(base + 0x1100, {base + 0x30000});
  const prp_segments found = walk(base + 0x5000, base + 0x10f8, 3 * 4096);
  ASSERT_EQ(found.count, 3U);
  EXPECT_EQ(segments[1].address, ram.at(base + 0x20000));
  EXPECT_EQ(segments[2].address, ram.at(base + 0x30000));
}

TEST_F(PrpWalk, TheLastPlaceOfAListPageHoldsDataWhenItIsTheLastOfAll) {
  write_list(base + 0x1ff0, {base + 0x20000, base + 0x30000});
  const prp_segments found = walk(base + 0x5000, base + 0x1ff0, 3 * 4096);
  ASSERT_EQ(found.status, status_code::success);
  EXPECT_EQ(segments[2].address, ram.at(base + 0x30000));
}

TEST_F(PrpWalk, TheLastPlaceOfAListPageLeadsToTheNextPageWhenMoreFollows) {
  write_list(base + 0x1ff0, {base + 0x20000, base + 0x40000});
  write_list(base + 0x40000, {base + 0x30000, base + 0x50000});
  const prp_segments found = walk(base + 0x5000, base + 0x1ff0, 4 * 4096);
  ASSERT_EQ(found.status, status_code::success);
  ASSERT_EQ(found.count, 4U);
  EXPECT_EQ(segments[2].address, ram.at(base + 0x30000));
  EXPECT_EQ(segments[3].address, ram.at(base + 0x50000));
}

TEST_F(PrpWalk, AListThatLeadsBackToItselfEnds) {
  write_list(base + 0x40000, std::vector<std::uint64_t>(512, base + 0x40000));
  const prp_segments found = walk(base + 0x5000, base + 0x40000, 4 * mib);
  EXPECT_EQ(found.status, status_code::success);  // all entries are pages of the host: its choice
  EXPECT_EQ(total(found), 4 * mib);
}

TEST_F(PrpWalk, AListOfTheLargestTransferFitsTheSegmentsThatAreFoundForIt) {
  std::vector<std::uint64_t> entries;
  for (std::uint64_t i = 0; i < 32; ++i) {
    entries.push_back(base + 0x80000 - i * 0x2000);  // no two adjoin
  }
  write_list(base + 0x1000, entries);
  const prp_segments found = walk(base + 0x5ffc, base + 0x1000, 128 * kib);
  ASSERT_EQ(found.status, status_code::success);
  EXPECT_EQ(found.count, 33U);
  EXPECT_EQ(total(found), 128 * kib);
}

TEST_F(PrpWalk, WrongDescriptionsAreRefused) {
  ram.add(base + mib, 0x1000, access::read);
  write_list(base + 0x1000, {base + 0x20004, base + 0x30000});
  write_list(base + 0x2000, {base + 0x20000, base + 2 * mib});
  write_list(base + 0x3ff8, {base + 0x20008});
  write_list(base + 0x4ff8, {~std::uint64_t{0xfff}});
  struct row {
    const char* what;
    std::uint64_t prp1, prp2, bytes;
    status_code expected;
  };
  const status_code offset = status_code::prp_offset_invalid;
  const status_code nowhere = status_code::data_transfer_error;
  for (const row& each : {
           row{"PRP1 not of dwords", base + 2, 0, 512, offset},
           row{"PRP1 below memory", base - 0x1000, 0, 512, nowhere},
           row{"PRP1 zero", 0, 0, 512, nowhere},
           row{"PRP1 at the end of addresses", ~std::uint64_t{0xfff}, 0, 4096, nowhere},
           row{"PRP1 read-only", base + mib, 0, 512, nowhere},
           row{"PRP2 page with an offset", base, base + 0x2004, 8192, offset},
           row{"PRP2 page nowhere", base, base + 3 * mib, 8192, nowhere},
           row{"list not of entries", base, base + 0x1004, 3 * 4096, offset},
           row{"list nowhere", base, base + 3 * mib, 3 * 4096, nowhere},
           row{"entry with an offset", base, base + 0x1000, 3 * 4096, offset},
           row{"entry nowhere", base, base + 0x2000, 3 * 4096, nowhere},
           row{"next list with an offset", base, base + 0x3ff8, 4 * 4096, offset},
           row{"next list nowhere", base, base + 0x4ff8, 4 * 4096, nowhere},
       }) {
    const prp_segments found = walk(each.prp1, each.prp2, each.bytes);
    EXPECT_EQ(found.status, each.expected) << each.what;
    EXPECT_EQ(found.count, 0U) << each.what;
  }
}

TEST_F(PrpWalk, DataForTheDeviceMayBeReadOnly) {
  ram.add(base + mib, 0x1000, access::read);
  EXPECT_EQ(walk(base + mib, 0, 512, access::read).status, status_code::success);
  EXPECT_EQ(walk(base + mib, 0, 512, access::write).status, status_code::data_transfer_error);
}

TEST_F(PrpWalk, MemoryThatWasTakenAwayIsNotFoundAgain) {
  const region& extra = ram.add(base + mib, 0x1000);
  EXPECT_EQ(walk(base + mib, 0, 512).status, status_code::success);
  ram.remove(extra);
  view.forget();
  EXPECT_EQ(walk(base + mib, 0, 512).status, status_code::data_transfer_error);
}

}  // namespace
}  // namespace runnel::target
