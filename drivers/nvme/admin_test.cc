// Goal: what a device says of itself is checked before it is used.
// Method: tables of identify data, right and wrong, through the parsers.
#include "drivers/nvme/admin.h"

#include <gtest/gtest.h>

#include <cstring>

namespace runnel::nvme {
namespace {

struct format_case {
  const char* what;
  std::uint64_t blocks;
  std::uint8_t flbas;
  lba_format format;
  errc expected;
};

TEST(identify_namespace_data, OnlyFormatsThatWeCanDriveAreTaken) {
  const format_case cases[] = {
      {"512 bytes", 100, 0, {.ms = 0, .lbads = 9, .rp = 0}, errc::ok},
      {"4096 bytes", 100, 0, {.ms = 0, .lbads = 12, .rp = 0}, errc::ok},
      {"64 KiB", 100, 0, {.ms = 0, .lbads = 16, .rp = 0}, errc::ok},
      {"256 bytes", 100, 0, {.ms = 0, .lbads = 8, .rp = 0}, errc::unsupported},
      {"128 KiB", 100, 0, {.ms = 0, .lbads = 17, .rp = 0}, errc::unsupported},
      {"2^255 bytes", 100, 0, {.ms = 0, .lbads = 255, .rp = 0}, errc::unsupported},
      {"a format that is not available", 100, 0, {.ms = 0, .lbads = 0, .rp = 0}, errc::unsupported},
      {"metadata", 100, 0, {.ms = 8, .lbads = 9, .rp = 0}, errc::unsupported},
      {"no such namespace", 0, 0, {.ms = 0, .lbads = 9, .rp = 0}, errc::not_found},
      {"a format beyond the last", 100, 1, {.ms = 0, .lbads = 9, .rp = 0}, errc::protocol},
      {"a format far beyond the last", 100, 0x6f, {.ms = 0, .lbads = 9, .rp = 0}, errc::protocol},
      {"more bytes than there are numbers",
       ~std::uint64_t{0},
       0,
       {.ms = 0, .lbads = 12, .rp = 0},
       errc::protocol},
  };
  for (const format_case& given : cases) {
    SCOPED_TRACE(given.what);
    identify_namespace data{};
    data.nsze = given.blocks;
    data.flbas = given.flbas;
    data.lbaf.fill(given.format);
    const auto format = parse_namespace(data);
    ASSERT_EQ(format.has_value(), given.expected == errc::ok);
    if (format) {
      EXPECT_EQ(format->block_bytes, 1U << given.format.lbads);
      EXPECT_EQ(format->block_count, given.blocks);
    } else {
      EXPECT_EQ(format.error().code, given.expected);
    }
  }
}

TEST(identify_namespace_data, TheFormatInUseIsTheOneNamed) {
  identify_namespace data{};
  data.nsze = 7;
  data.nlbaf = 20;
  data.flbas = 0x21;  // index 17: bit 5 is worth 16
  data.lbaf[17].lbads = 12;
  EXPECT_EQ(parse_namespace(data)->block_bytes, 4096U);
}

TEST(identify_controller_data, TransfersAreLimitedByTheDeviceAndByUs) {
  identify_controller data{};
  data.sqes = 0x66;
  data.cqes = 0x44;
  const std::pair<std::uint8_t, std::uint32_t> cases[] = {
      {0, 1U << 20U}, {1, 8192}, {5, 131072}, {8, 1U << 20U}, {9, 1U << 20U}, {255, 1U << 20U}};
  for (const auto& [mdts, bytes] : cases) {
    data.mdts = mdts;
    EXPECT_EQ(parse_transfer_limit(data, 4096, 1U << 20U).value(), bytes) << int{mdts};
  }
}

TEST(identify_controller_data, QueueEntriesOfOtherSizesAreRefused) {
  identify_controller data{};
  data.sqes = 0x77;
  data.cqes = 0x44;
  EXPECT_EQ(parse_transfer_limit(data, 4096, 4096).error().code, errc::unsupported);
  data.sqes = 0x76;  // 64 bytes is the least, 128 the most
  EXPECT_TRUE(parse_transfer_limit(data, 4096, 4096).has_value());
  data.cqes = 0x33;
  EXPECT_EQ(parse_transfer_limit(data, 4096, 4096).error().code, errc::unsupported);
}

TEST(namespace_list_data, EndsAtTheFirstZeroOrWhenItIsFull) {
  namespace_list list{};
  EXPECT_TRUE(parse_namespace_list(list).empty());
  list[0] = 3;
  list[1] = 9;
  list[3] = 12;
  EXPECT_EQ(parse_namespace_list(list), (std::vector<std::uint32_t>{3, 9}));
  list.fill(5);
  EXPECT_EQ(parse_namespace_list(list).size(), list.size());
}

TEST(namespace_descriptor_list, IsReadAsFarAsItIsWellFormed) {
  std::array<std::byte, identify_bytes> data{};
  const auto put = [&data](std::size_t at, std::uint8_t type, std::uint8_t length) {
    data.at(at) = std::byte{type};
    data.at(at + 1) = std::byte{length};
    return at + 4 + length;
  };
  std::size_t end = put(0, 1, 8);
  end = put(end, 77, 5);  // a type of the future
  end = put(end, 2, 15);  // a name of a wrong length is none
  end = put(end, 3, 16);
  const auto names = parse_descriptors(data);
  EXPECT_TRUE(names.eui64.has_value());
  EXPECT_FALSE(names.nguid.has_value());
  EXPECT_TRUE(names.uuid.has_value());

  data.fill(std::byte{0xff});  // each entry claims 255 bytes; the last one does not fit
  EXPECT_FALSE(parse_descriptors(data).eui64.has_value());
}

TEST(device_text, IsTrimmedAndFitToPrint) {
  EXPECT_EQ(text_of(std::array{'R', 'u', 'n', ' ', 'n', ' ', ' '}), "Run n");
  EXPECT_EQ(text_of(std::array{'a', '\0', 'b'}), "a");
  EXPECT_EQ(text_of(std::array{'a', '\x1b', '\x80'}), "a??");
  EXPECT_EQ(text_of(std::array{' ', ' '}), "");
}

}  // namespace
}  // namespace runnel::nvme
