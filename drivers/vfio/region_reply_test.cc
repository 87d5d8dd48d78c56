// Goal: whatever a device says about a region, what we believe lies inside the region. Method: a
// good reply, and the same with one field changed at a time.
#include "drivers/vfio/region_reply.h"

#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <vector>

#include "drivers/vfio/uapi/vfio.h"
#include "tests/sim/edge_numbers.h"
#include "tests/sim/scripted_peer.h"

namespace runnel::vfio {
namespace {

using sim::byte_vector;
using sim::bytes_of;
using sim::top;

constexpr std::uint32_t index = 3;
constexpr std::uint64_t region_bytes = 0x4000;

struct sparse_reply {
  uapi::region_info region{.argsz = 88,
                           .flags = 0xf,
                           .index = index,
                           .cap_offset = 32,
                           .size = region_bytes,
                           .offset = 0x8000};
  uapi::info_cap_header unknown{.id = 77, .version = 9, .next = 40};
  uapi::region_info_cap_sparse_mmap sparse{
      .header = {.id = uapi::region_caps::sparse_mmap, .version = 1, .next = 0},
      .nr_areas = 2,
      .reserved = 0};
  uapi::region_sparse_mmap_area low{.offset = 0, .size = 0x1000};
  uapi::region_sparse_mmap_area high{.offset = 0x3000, .size = 0x1000};

  [[nodiscard]] byte_vector bytes() const { return bytes_of(region, unknown, sparse, low, high); }
};

TEST(RegionReply, SparseAreasBehindAnUnknownCapabilityAreFound) {
  const auto region = parse_region_info(sparse_reply{}.bytes(), index);
  ASSERT_TRUE(region.has_value());
  EXPECT_EQ(region->size, region_bytes);
  EXPECT_EQ(region->file_offset, 0x8000U);
  EXPECT_EQ(region->fd, -1);
  ASSERT_EQ(region->areas.size(), 2U);
  EXPECT_EQ(region->areas[1].offset, 0x3000U);
  EXPECT_EQ(region->areas[1].length, 0x1000U);
}

TEST(RegionReply, AMappableRegionWithoutCapabilitiesIsOneArea) {
  const auto region =
      parse_region_info(bytes_of(sim::scripted_peer::region(index, region_bytes, 7)), index);
  ASSERT_TRUE(region.has_value());
  ASSERT_EQ(region->areas.size(), 1U);
  EXPECT_EQ(region->areas[0].length, region_bytes);
}

TEST(RegionReply, ARegionThatIsNotMappableHasNoAreas) {
  const auto region =
      parse_region_info(bytes_of(sim::scripted_peer::region(index, region_bytes, 3)), index);
  ASSERT_TRUE(region.has_value());
  EXPECT_TRUE(region->areas.empty());
}

TEST(RegionReply, ARegionBeyondTheNumberedOnesHasATypeWhetherItIsMappedOrNot) {
  for (const std::uint32_t flags : {0xbU, 0xfU}) {  // not mappable, mappable
    const uapi::region_info region{.argsz = 48,
                                   .flags = flags,
                                   .index = index,
                                   .cap_offset = 32,
                                   .size = region_bytes,
                                   .offset = 0};
    uapi::region_info_cap_type type{
        .header = {.id = uapi::region_caps::type, .version = 1, .next = 0},
        .type = 0x8000'8086,
        .subtype = 2};
    const auto told = parse_region_info(bytes_of(region, type), index);
    ASSERT_TRUE(told.has_value()) << flags;
    EXPECT_EQ(told->type, (region_type{.type = 0x8000'8086, .subtype = 2}));
    EXPECT_EQ(told->areas.size(), flags == 0xfU ? 1U : 0U);
    type.header.version = 2;
    EXPECT_FALSE(parse_region_info(bytes_of(region, type), index).has_value());
  }
}

TEST(RegionReply, AReplyCutAnywhereIsRefusedAndNeverReadBeyond) {
  const byte_vector whole = sparse_reply{}.bytes();
  for (std::size_t length = 0; length < whole.size(); ++length) {
    const byte_vector cut{whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(length)};
    EXPECT_FALSE(parse_region_info(cut, index).has_value()) << length;
  }
}

struct region_lie {
  const char* name;
  void (*tell)(sparse_reply&);
};

class RegionLies : public testing::TestWithParam<region_lie> {};

TEST_P(RegionLies, AreRefusedAsProtocolErrors) {
  sparse_reply reply;
  GetParam().tell(reply);
  const auto region = parse_region_info(reply.bytes(), index);
  ASSERT_FALSE(region.has_value());
  EXPECT_EQ(region.error().code, errc::protocol);
}

INSTANTIATE_TEST_SUITE_P(
    Each, RegionLies,
    testing::Values(
        region_lie{"another_index", [](sparse_reply& r) { r.region.index = 4; }},
        region_lie{"argsz_below_the_structure", [](sparse_reply& r) { r.region.argsz = 31; }},
        region_lie{"chain_inside_the_structure", [](sparse_reply& r) { r.region.cap_offset = 8; }},
        region_lie{"chain_beyond_the_end", [](sparse_reply& r) { r.region.cap_offset = 4096; }},
        region_lie{"chain_at_the_last_number",
                   [](sparse_reply& r) { r.region.cap_offset = 0xffffffff; }},
        region_lie{"capability_follows_itself", [](sparse_reply& r) { r.unknown.next = 32; }},
        region_lie{"capabilities_overlap", [](sparse_reply& r) { r.unknown.next = 36; }},
        region_lie{"chain_goes_back", [](sparse_reply& r) { r.sparse.header.next = 32; }},
        region_lie{"unknown_version", [](sparse_reply& r) { r.sparse.header.version = 2; }},
        region_lie{"one_area_too_many", [](sparse_reply& r) { r.sparse.nr_areas = 3; }},
        region_lie{"four_billion_areas", [](sparse_reply& r) { r.sparse.nr_areas = 0xffffffff; }},
        region_lie{"area_over_the_end", [](sparse_reply& r) { r.high.size = 0x1001; }},
        region_lie{"area_beyond_the_end",
                   [](sparse_reply& r) { r.high.offset = region_bytes + 1; }},
        region_lie{"area_wraps", [](sparse_reply& r) { r.high = {.offset = top, .size = 2}; }}),
    [](const auto& each) { return std::string{each.param.name}; });

}  // namespace
}  // namespace runnel::vfio
