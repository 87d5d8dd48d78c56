// Core lists as people write them for taskset, DPDK and SPDK.

#include "apps/cli/core_list.h"

#include <gtest/gtest.h>

namespace runnel::cli {
namespace {

using cores = std::vector<unsigned>;

TEST(CoreList, ReadsListsRangesAndMasks) {
  EXPECT_EQ(parse_core_list("0").value(), cores{0});
  EXPECT_EQ(parse_core_list("3,0-1").value(), (cores{0, 1, 3}));
  EXPECT_EQ(parse_core_list("[2-3,5]").value(), (cores{2, 3, 5}));
  EXPECT_EQ(parse_core_list("0x5").value(), (cores{0, 2}));
  EXPECT_EQ(parse_core_list("1,1").value(), cores{1});
}

TEST(CoreList, RefusesEverythingElseAndSaysHowToWriteIt) {
  for (const char* text : {"", ",", "1,", "a", "2-1", "0x0", "0x", "1-", "-1", "1 2", "[1", "99999",
                           "18446744073709551616"}) {
    const auto parsed = parse_core_list(text);
    ASSERT_FALSE(parsed.has_value()) << text;
    EXPECT_NE(parsed.error().message().find("0,2-5"), std::string::npos) << text;
  }
}

TEST(CoreList, DefaultsAreAllowedCores) {
  const auto first = choose_cores("", default_core::first);
  const auto last = choose_cores("", default_core::last);
  ASSERT_TRUE(first && last);
  EXPECT_EQ(first->size(), 1U);
  EXPECT_LE(first->front(), last->front());
}

}  // namespace
}  // namespace runnel::cli
