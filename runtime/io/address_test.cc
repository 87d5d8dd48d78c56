// Goal: every tool takes the same addresses, and a mistyped one is answered by a line that says
// what would do. Method: tables of texts, good and bad, against what they must mean.

#include "runtime/io/address.h"

#include <gtest/gtest.h>

#include <array>
#include <string>
#include <string_view>

namespace runnel::io {
namespace {

TEST(Address, KnowsItsSchemeAndTarget) {
  struct row {
    std::string_view text;
    scheme kind;
    std::string_view target;
    std::uint64_t bytes;
  };
  for (const row& each : std::array<row, 8>{{
           {"vfio-user:/run/a.sock", scheme::vfio_user, "/run/a.sock", 0},
           {"file:disk.img", scheme::file, "disk.img", 0},
           {"file:/odd?name?block_size=4k", scheme::file, "/odd?name", 0},
           {"ram:256M", scheme::ram, "256M", 256U << 20U},
           {"null:4096", scheme::null, "4096", 4096},
           {"null:", scheme::null, "", std::uint64_t{1} << 40U},
           {"null:?block_size=4k", scheme::null, "", std::uint64_t{1} << 40U},
           {"pci:0000:01:00.0", scheme::pci, "0000:01:00.0", 0},
       }}) {
    const auto parsed = parse_address(each.text);
    ASSERT_TRUE(parsed) << each.text << ": " << parsed.error().message();
    EXPECT_EQ(parsed->kind, each.kind) << each.text;
    EXPECT_EQ(parsed->target, each.target);
    EXPECT_EQ(parsed->bytes, each.bytes);
    EXPECT_EQ(parsed->text, each.text);
  }
}

TEST(Address, QueryFillsTheOptionsOfItsScheme) {
  const auto nvme = parse_address("vfio-user:/a?ns=2&queue_depth=256");
  ASSERT_TRUE(nvme);
  EXPECT_EQ(nvme->namespace_id, 2U);
  EXPECT_EQ(nvme->queue_depth, 256U);
  EXPECT_FALSE(nvme->block_bytes);
  const auto ram = parse_address("ram:1g?block_size=4k");
  ASSERT_TRUE(ram);
  EXPECT_EQ(ram->block_bytes, 4096U);
  const auto pci = parse_address("pci:0000:01:00.0?ns=1&via=group");
  ASSERT_TRUE(pci);
  EXPECT_EQ(pci->target, "0000:01:00.0");
  EXPECT_EQ(pci->via, pci::way::group);
}

TEST(Address, MistypedOnesAreUsageErrorsThatNameTheTextAndARemedy) {
  struct row {
    std::string_view text;
    std::string_view remedy;
  };
  for (const row& each : std::array<row, 20>{{
           {"", "vfio-user:PATH"},
           {"disk.img", "file:PATH"},
           {"nvme:/dev/nvme0", "ram:SIZE"},
           {":x", "addresses are"},
           {"file:", "addresses are"},
           {"file:?block_size=512", "addresses are"},
           {"ram:", "addresses are"},
           {"ram:12q", "ram:256m"},
           {"ram:0", "ram:256m"},
           {"ram:-1", "ram:256m"},
           {"ram:16777216t", "ram:256m"},  // 2^64 bytes
           {"null:1kk", "null:256m"},
           {"ram:1m?ns=1", "options of ram are block_size=, queue_depth=,"},
           {"ram:1m?block_size", "block_size="},
           {"vfio-user:/a?ns=0", "ns is a number from 1"},
           {"vfio-user:/a?ns=1&ns=2", "twice"},
           {"vfio-user:/a?queue_depth=65537", "1 to 65536"},
           {"pci:nvme0", "pci:0000:01:00.0"},
           {"pci:01:00.0?via=none", "via is cdev, group, compat or noiommu"},
           {"pci:01:00.0?via=cdev&via=cdev", "via is given twice"},
       }}) {
    const auto parsed = parse_address(each.text);
    ASSERT_FALSE(parsed) << each.text;
    EXPECT_TRUE(is_usage_error(parsed.error())) << each.text;
    const std::string line = parsed.error().message();
    EXPECT_NE(line.find("\"" + std::string{each.text} + "\""), std::string::npos) << line;
    EXPECT_NE(line.find(each.remedy), std::string::npos) << line;
    EXPECT_EQ(line.find('\n'), std::string::npos);
  }
}

TEST(Address, SizesTakePowersOf1024) {
  EXPECT_EQ(parse_size("0"), 0U);
  EXPECT_EQ(parse_size("4k"), 4096U);
  EXPECT_EQ(parse_size("3G"), std::uint64_t{3} << 30U);
  EXPECT_EQ(parse_size("2t"), std::uint64_t{2} << 40U);
  EXPECT_EQ(parse_size("18446744073709551615"), ~std::uint64_t{0});
  for (const std::string_view bad : {"", "k", "4 k", "4kb", "0x10", "-4", "18446744073709551616"}) {
    const auto parsed = parse_size(bad);
    ASSERT_FALSE(parsed) << bad;
    EXPECT_TRUE(is_usage_error(parsed.error())) << bad;
  }
}

TEST(Address, OtherFailuresAreNotUsageErrors) {
  EXPECT_FALSE(
      is_usage_error({.what = {errc::os, 2}, .operation = "open", .object = "x", .hint = ""}));
  EXPECT_FALSE(
      is_usage_error({.what = {errc::invalid}, .operation = "open", .object = "x", .hint = ""}));
}

}  // namespace
}  // namespace runnel::io
