// Goal: whatever a container says about its IOMMU, the ranges we believe are ranges. Method: a good
// reply of a recent kernel, replies of older ones, and the good one with one field changed.
#include "drivers/vfio/type1_reply.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <functional>
#include <span>
#include <utility>
#include <vector>

#include "drivers/vfio/uapi/type1.h"

namespace runnel::vfio {
namespace {

struct reply_parts {
  uapi::iommu_type1_info info{
      .argsz = sizeof(reply_parts),
      .flags = uapi::iommu_info_flags::pgsizes | uapi::iommu_info_flags::caps,
      .iova_pgsizes = 0x40201000,
      .cap_offset = 24,
      .pad = 0};
  uapi::iommu_type1_info_cap_iova_range head{
      .header = {.id = uapi::iommu_caps::iova_range, .version = 1, .next = 72},
      .nr_iovas = 2,
      .reserved = 0};
  uapi::type1_iova_range low{.start = 0, .end = 0xfedfffff};
  uapi::type1_iova_range high{.start = 0xfef00000, .end = (1ULL << 39U) - 1};
  uapi::iommu_type1_info_dma_avail avail{
      .header = {.id = uapi::iommu_caps::dma_avail, .version = 1, .next = 0}, .avail = 65000};
  std::uint32_t pad = 0;

  [[nodiscard]] std::vector<std::byte> bytes() const {
    const auto all = std::as_bytes(std::span{this, 1});
    return {all.begin(), all.end()};
  }
};
static_assert(sizeof(reply_parts) == 88);

TEST(Type1Reply, TellsRangesPageSizeAndWhatMapsAreLeft) {
  const auto info = parse_type1_info(reply_parts{}.bytes());
  ASSERT_TRUE(info.has_value());
  EXPECT_EQ(info->page_bytes, 4096U);
  ASSERT_EQ(info->ranges.size(), 2U);
  EXPECT_EQ(info->ranges[0].last, 0xfedfffffU);
  EXPECT_EQ(info->ranges[1].first, 0xfef00000U);
  EXPECT_EQ(info->maps_available, 65000U);
}

TEST(Type1Reply, AnOldKernelTellsNoRangesAndAllowsEverything) {
  reply_parts old;
  old.info.flags = uapi::iommu_info_flags::pgsizes;
  const auto info = parse_type1_info(old.bytes());
  ASSERT_TRUE(info.has_value());
  ASSERT_EQ(info->ranges.size(), 1U);
  EXPECT_EQ(info->ranges[0].first, 0U);
  EXPECT_EQ(info->ranges[0].last, ~std::uint64_t{0});
  EXPECT_FALSE(info->maps_available.has_value());
}

TEST(Type1Reply, WhatMakesNoSenseIsRefused) {
  using change = std::function<void(reply_parts&)>;
  const std::vector<std::pair<const char*, change>> changes{
      {"more ranges than bytes", [](reply_parts& r) { r.head.nr_iovas = 1000; }},
      {"a range that ends before it begins",
       [](reply_parts& r) { r.low.end = 0, r.low.start = 1; }},
      {"no page size", [](reply_parts& r) { r.info.iova_pgsizes = 0; }},
      {"ranges of another version", [](reply_parts& r) { r.head.header.version = 2; }},
      {"a number of another version", [](reply_parts& r) { r.avail.header.version = 2; }},
      {"a chain that turns back", [](reply_parts& r) { r.avail.header.next = 24; }}};
  for (const auto& [what, apply] : changes) {
    reply_parts reply;
    apply(reply);
    EXPECT_FALSE(parse_type1_info(reply.bytes()).has_value()) << what;
  }
  EXPECT_FALSE(parse_type1_info({}).has_value());
  auto cut_off = reply_parts{}.bytes();
  cut_off.resize(offsetof(reply_parts, avail) + sizeof(uapi::info_cap_header));
  EXPECT_FALSE(parse_type1_info(cut_off).has_value());
}

}  // namespace
}  // namespace runnel::vfio
