// Goal: every number a peer can put into a message is checked before anyone uses it.
// Method: tables of payloads: good, short, long, wrapping; the texts that real clients send.

#include "drivers/vfio_user/protocol.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/sim/edge_numbers.h"

namespace runnel::vfio_user {
namespace {

using sim::top;

std::string version_payload(version_numbers numbers, std::string_view text) {
  const auto wire = wire_bytes(numbers);
  std::string payload{reinterpret_cast<const char*>(wire.data()), wire.size()};
  payload += text;
  return payload;
}

result<version_info> parse(const std::string& payload) {
  return parse_version(std::as_bytes(std::span{payload}));
}

std::string terminated(std::string text) {
  text += '\0';
  return text;
}

TEST(Header, LengthAndTypeAreCheckedAndNothingElse) {
  struct row {
    header head;
    bool good;
  };
  const std::vector<row> rows{
      {{.id = 1, .what = command::version, .size = 16}, true},
      {{.id = 1, .what = command{999}, .size = 16}, true},  // unknown commands get a reply
      {{.size = 16, .flags = header_flags::type_reply | header_flags::error}, true},
      {{.size = message_bytes_max}, true},
      {{.size = message_bytes_max + 1}, false},
      {{.size = 15}, false},
      {{.size = 0}, false},
      {{.size = ~0U}, false},
      {{.size = 16, .flags = 2}, false},
      {{.size = 16, .flags = 0xf}, false},
  };
  for (const row& each : rows) {
    EXPECT_EQ(parse_header(wire_bytes(each.head)).has_value(), each.good) << each.head.size;
  }
  EXPECT_FALSE(parse_header(wire_bytes(header{.size = 16}).first(15)));
}

TEST(Header, RepliesEchoTheRequest) {
  const header request = command_header(77, command::region_read, 16);
  EXPECT_EQ(request.size, 32U);
  EXPECT_TRUE(request.wants_reply());
  const header reply = reply_header(request, 20);
  EXPECT_EQ(reply.id, 77);
  EXPECT_EQ(reply.what, command::region_read);
  EXPECT_EQ(reply.size, 36U);
  EXPECT_EQ(reply.flags, 1U);
  const header refusal = error_header(request, 22);
  EXPECT_EQ(refusal.size, 16U);
  EXPECT_EQ(refusal.flags, 0x21U);
  EXPECT_EQ(refusal.error_number, 22U);
}

TEST(Version, WhatQemuSendsIsUnderstood) {
  // QEMU 11.1.3, byte for byte.
  const auto info = parse(version_payload(
      {.major = 0, .minor = 0},
      terminated(R"({"capabilities": {"pgsizes": 4096, "max_msg_fds": 16, "max_dma_maps": 65535, )"
                 R"("max_data_xfer_size": 1048576, "migration": {"max_bitmap_size": 268435456, )"
                 R"("pgsize": 4096}, "write_multiple": true}})")));
  ASSERT_TRUE(info);
  EXPECT_EQ(info->numbers.minor, 0);
  EXPECT_EQ(info->limits.max_msg_fds, 16U);
  EXPECT_EQ(info->limits.max_data_xfer_size, 1048576U);
}

TEST(Version, SilenceMeansTheDefaults) {
  for (const std::string& text :
       {std::string{}, terminated("{}"), terminated(R"({"capabilities":{}})"),
        terminated(R"({"capabilities":{"twin_socket":{"supported":true}},"else":[1]})")}) {
    const auto info = parse(version_payload({}, text));
    ASSERT_TRUE(info) << text;
    EXPECT_EQ(info->limits, capabilities{}) << text;
  }
}

TEST(Version, BrokenTextsAreRefused) {
  const std::string deep(4000, '[');
  const std::vector<std::string> texts{
      "{}",  // not terminated
      "{} ",
      terminated(""),
      terminated("{"),
      terminated("[]"),
      terminated("null"),
      terminated(R"({"capabilities":7})"),
      terminated(R"({"capabilities":{"max_msg_fds":-1}})"),
      terminated(R"({"capabilities":{"max_msg_fds":"8"}})"),
      terminated(R"({"capabilities":{"max_msg_fds":1.5}})"),
      terminated(R"({"capabilities":{"pgsizes":1e400}})"),
      terminated(R"({"capabilities":{"max_dma_maps":99999999999999999999}})"),
      terminated("\xff\xfe"),
      terminated(deep),
      terminated("{}" + std::string(version_text_bytes_max, ' ')),
  };
  for (const std::string& text : texts) {
    EXPECT_FALSE(parse(version_payload({}, text))) << text.substr(0, 60);
  }
  EXPECT_FALSE(parse("abc"));
}

TEST(Version, OurReplyIsReadBackAndFitsTheBufferOfQemu) {
  const version_info said{.numbers = {.major = 0, .minor = 1},
                          .limits = {.max_msg_fds = message_fds_max,
                                     .max_data_xfer_size = data_bytes_max,
                                     .max_dma_maps = 65535}};
  const std::string payload = encode_version(said);
  EXPECT_LE(sizeof(header) + payload.size(), 180U);
  const auto read = parse(payload);
  ASSERT_TRUE(read);
  EXPECT_EQ(read->limits, said.limits);
  EXPECT_EQ(read->numbers.minor, 1);
}

TEST(DmaMap, EveryRuleHasARow) {
  const dma_map_payload good{
      .argsz = 32, .flags = 3, .offset = 0x2000, .iova = 0x10000, .size = 0x1000};
  const auto changed = [&](auto change) {
    dma_map_payload copy = good;
    change(copy);
    return copy;
  };
  struct row {
    const char* what;
    dma_map_payload map;
    bool good;
  };
  const std::vector<row> rows{
      {"as it is", good, true},
      {"larger argsz", changed([](auto& m) { m.argsz = 64; }), true},
      {"read only", changed([](auto& m) { m.flags = 1; }), true},
      {"the mmap flag", changed([](auto& m) { m.flags = 7; }), true},
      {"up to the last address", changed([](auto& m) { m.iova = top - 0xfff; }), true},
      {"short argsz", changed([](auto& m) { m.argsz = 31; }), false},
      {"no access", changed([](auto& m) { m.flags = 0; }), false},
      {"file input and output", changed([](auto& m) { m.flags = 11; }), false},
      {"unknown flag", changed([](auto& m) { m.flags = 0x80000003; }), false},
      {"no bytes", changed([](auto& m) { m.size = 0; }), false},
      {"iova wraps", changed([](auto& m) { m.iova = top - 0xffe; }), false},
      {"offset wraps", changed([](auto& m) { m.offset = top; }), false},
      {"everything wraps", changed([](auto& m) { m.size = top; }), false},
  };
  for (const row& each : rows) {
    EXPECT_EQ(parse_dma_map(wire_bytes(each.map)).has_value(), each.good) << each.what;
  }
  EXPECT_FALSE(parse_dma_map(wire_bytes(good).first(31)));
  std::vector<std::byte> longer(33);
  write_wire(longer, good);
  EXPECT_FALSE(parse_dma_map(longer));
}

TEST(DmaUnmap, EveryRuleHasARow) {
  struct row {
    const char* what;
    dma_unmap_payload unmap;
    bool good;
  };
  const std::vector<row> rows{
      {"a range", {.argsz = 24, .flags = 0, .iova = 0x1000, .size = 0x1000}, true},
      {"up to the last address", {.argsz = 24, .flags = 0, .iova = 1, .size = top}, true},
      {"half of all addresses",
       {.argsz = 24, .flags = 0, .iova = 1ULL << 47U, .size = 1ULL << 47U},
       true},
      {"all", {.argsz = 24, .flags = 2, .iova = 0, .size = 0}, true},
      {"all, but with a range", {.argsz = 24, .flags = 2, .iova = 0, .size = 4096}, false},
      {"a range of nothing", {.argsz = 24, .flags = 0, .iova = 4096, .size = 0}, false},
      {"a range that wraps", {.argsz = 24, .flags = 0, .iova = 2, .size = top}, false},
      {"dirty bitmap", {.argsz = 24, .flags = 1, .iova = 0, .size = 4096}, false},
      {"short argsz", {.argsz = 23, .flags = 0, .iova = 0, .size = 4096}, false},
  };
  for (const row& each : rows) {
    EXPECT_EQ(parse_dma_unmap(wire_bytes(each.unmap)).has_value(), each.good) << each.what;
  }
  EXPECT_FALSE(parse_dma_unmap(wire_bytes(rows[0].unmap).first(23)));
}

TEST(DataMessages, CarryExactlyWhatTheyCount) {
  std::vector<std::byte> payload(sizeof(region_access_payload) + 8);
  write_wire(payload, region_access_payload{.offset = 4, .region = 0, .count = 8});
  const auto good = parse_with_data<region_access_payload>(payload);
  ASSERT_TRUE(good);
  EXPECT_EQ(good->data.size(), 8U);
  EXPECT_EQ(good->data.data(), payload.data() + sizeof(region_access_payload));

  payload.pop_back();
  EXPECT_FALSE(parse_with_data<region_access_payload>(payload));
  payload.resize(sizeof(region_access_payload) + 9);
  EXPECT_FALSE(parse_with_data<region_access_payload>(payload));
  write_wire(payload, dma_access_payload{.iova = 0, .count = top});
  EXPECT_FALSE(parse_with_data<dma_access_payload>(payload));
  payload.resize(sizeof(dma_access_payload) - 1);
  EXPECT_FALSE(parse_with_data<dma_access_payload>(payload));
}

TEST(Errors, TravelAsErrnos) {
  EXPECT_EQ(errno_of({errc::os, ENOSPC}), ENOSPC);
  EXPECT_EQ(errno_of({errc::busy, 0}), EEXIST);
  EXPECT_EQ(errno_of({errc::no_memory, 0}), ENOMEM);
  EXPECT_EQ(errno_of({errc::unsupported, 0}), EINVAL);
}

}  // namespace
}  // namespace runnel::vfio_user
