// Goal: regions are announced to the peer, and a peer that asks for memory by message gets what was
// mapped for it and nothing else. Method: the scripted peer sends DMA_READ and DMA_WRITE.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <string>
#include <vector>

#include "drivers/vfio/user_client.h"
#include "mempool/base/bits.h"
#include "tests/sim/client_and_peer.h"
#include "tests/sim/edge_numbers.h"

namespace runnel::vfio {
namespace {

using sim::byte_vector;
using sim::bytes_of;
using sim::page;
using sim::scripted_peer;
using vfio_user::command;
using vfio_user::command_header;
using vfio_user::dma_access_payload;

constexpr std::uint64_t bus = 0x100000;

class UserClientDma : public sim::client_and_peer {
 protected:
  UserClientDma() : memory(2 * mib + page) {
    const auto start = reinterpret_cast<std::uintptr_t>(memory.data());
    whole.address = memory.data() + (align_up(start, page) - start);
    whole.length = 2 * mib;
    whole.iova_offset = bus - reinterpret_cast<std::uintptr_t>(whole.address);
    for (std::size_t i = 0; i < whole.length; ++i) {
      whole.address[i] = pattern(i);
    }
  }

  [[nodiscard]] static std::byte pattern(std::size_t at) {
    return static_cast<std::byte>((at * 7 + at / 256) & 0xff);
  }

  void map_whole() {
    const auto which = client.map(whole);
    ASSERT_TRUE(which.has_value());
    peer.reply(hear());
    ASSERT_EQ(wait_for(*which)->status, error{});
  }
  void wish(command what, std::uint64_t first, std::uint64_t count, const byte_vector& data = {}) {
    byte_vector payload = bytes_of(dma_access_payload{.iova = first, .count = count});
    payload.insert(payload.end(), data.begin(), data.end());
    peer.say(command_header(++last_id, what, payload.size()), payload);
  }
  void expect_refused() {
    const auto answer = hear();
    EXPECT_EQ(answer.head.id, last_id);
    EXPECT_TRUE(answer.head.is_reply() && answer.head.is_error());
    EXPECT_EQ(answer.head.error_number, static_cast<std::uint32_t>(EINVAL));
    EXPECT_TRUE(answer.payload.empty());
  }
  void expect_read(std::uint64_t offset, std::uint64_t count) {
    const auto answer = hear();
    EXPECT_FALSE(answer.head.is_error());
    const auto reply = vfio_user::parse_with_data<dma_access_payload>(answer.payload);
    ASSERT_TRUE(reply.has_value());
    EXPECT_EQ(reply->fixed.iova, bus + offset);
    ASSERT_EQ(reply->data.size(), count);
    EXPECT_TRUE(std::ranges::equal(reply->data, std::span{whole.address + offset, count}));
  }

  std::uint16_t last_id = 100;
  byte_vector memory;
  region whole;
};

TEST_F(UserClientDma, ARegionIsAnnouncedWithItsFile) {
  bring_up_ready();
  const unique_fd file = sim::make_file(whole.length + page);
  whole.fd = file.get();
  whole.fd_offset = page;
  whole.permissions = access::read;
  ASSERT_TRUE(client.map(whole).has_value());
  const auto asked = hear();
  const auto map = asked.as<vfio_user::dma_map_payload>();
  EXPECT_EQ(map.argsz, 32U);
  EXPECT_EQ(map.flags, vfio_user::dma_map_flags::read);
  EXPECT_EQ(map.offset, page);
  EXPECT_EQ(map.iova, bus);
  EXPECT_EQ(map.size, 2 * mib);
  EXPECT_EQ(asked.fds.size(), 1U);
}

TEST_F(UserClientDma, ARegionWithoutAFileTravelsWithoutDescriptor) {
  bring_up_ready();
  ASSERT_TRUE(client.map(whole).has_value());
  EXPECT_TRUE(hear().fds.empty());
}

TEST_F(UserClientDma, RegionsThatCannotBeMappedAreRefusedHere) {
  bring_up_ready();
  region bad = whole;
  bad.length = page - 1;
  EXPECT_EQ(client.map(bad).error().code, errc::invalid);
  bad.length = 0;
  EXPECT_EQ(client.map(bad).error().code, errc::invalid);
  bad = whole;
  bad.iova_offset += 512;
  EXPECT_EQ(client.map(bad).error().code, errc::invalid);
  bad = whole;
  bad.permissions = access::none;
  EXPECT_EQ(client.map(bad).error().code, errc::invalid);
  ASSERT_TRUE(client.map(whole).has_value());
  EXPECT_EQ(client.map(whole).error().code, errc::invalid) << "it is mapped already";
  bad = whole;
  bad.length -= page;
  EXPECT_EQ(client.unmap(bad).error().code, errc::invalid) << "no such map";
}

TEST_F(UserClientDma, ThePeersLimitOfMapsIsKept) {
  peer.answers[command::version] = [](auto& from, auto& asked) {
    from.say_version(asked, 0, 1, R"({"capabilities":{"max_dma_maps":1}})");
  };
  bring_up_ready();
  region half = whole;
  half.length /= 2;
  ASSERT_TRUE(client.map(half).has_value());
  half.address += half.length;
  EXPECT_EQ(client.map(half).error().code, errc::no_memory);
}

TEST_F(UserClientDma, ThePeerReadsAndWritesWhatIsMapped) {
  bring_up_ready();
  map_whole();
  wish(command::dma_read, bus + 5, 1000);
  expect_read(5, 1000);
  wish(command::dma_write, bus + 2 * mib - 2, 2, {std::byte{0xaa}, std::byte{0xbb}});
  const auto written = hear();
  EXPECT_FALSE(written.head.is_error());
  EXPECT_EQ(written.as<dma_access_payload>().count, 2U);
  EXPECT_EQ(written.payload.size(), sizeof(dma_access_payload));
  EXPECT_EQ(whole.address[whole.length - 1], std::byte{0xbb});
}

TEST_F(UserClientDma, WishesOutsideTheMapsAreRefused) {
  bring_up_ready();
  wish(command::dma_read, bus, 1);
  expect_refused();  // nothing is mapped yet
  map_whole();
  for (const auto& [first, count] :
       std::vector<std::pair<std::uint64_t, std::uint64_t>>{{bus - 1, 1},
                                                            {bus - 1, 2},
                                                            {bus + 2 * mib, 1},
                                                            {bus + 2 * mib - 1, 2},
                                                            {bus, ~0ULL},
                                                            {~0ULL, 1},
                                                            {~0ULL, 2},
                                                            {bus, mib + 1}}) {
    wish(command::dma_read, first, count);
    expect_refused();
  }
  wish(command::dma_write, bus + 2 * mib - 1, 2, byte_vector(2));
  expect_refused();
  wish(command::dma_write, bus, 3, byte_vector(2));
  expect_refused();  // says more than it carries
  wish(command::dma_write, bus, 2, byte_vector(3));
  expect_refused();
  wish(command::dma_read, bus, 1, byte_vector(1));
  expect_refused();
  EXPECT_EQ(whole.address[whole.length - 1], pattern(whole.length - 1));
}

TEST_F(UserClientDma, PermissionsOfTheRegionHold) {
  bring_up_ready();
  whole.permissions = access::read;
  map_whole();
  wish(command::dma_write, bus, 1, byte_vector(1));
  expect_refused();
  EXPECT_EQ(whole.address[0], pattern(0));
  wish(command::dma_read, bus, 1);
  expect_read(0, 1);
}

TEST_F(UserClientDma, NothingIsTouchedOnceAnUnmapWasStarted) {
  bring_up_ready();
  map_whole();
  ASSERT_TRUE(client.unmap(whole).has_value());
  const auto asked = hear();
  EXPECT_EQ(asked.as<vfio_user::dma_unmap_payload>().size, 2 * mib);
  wish(command::dma_write, bus, 1, byte_vector(1));
  expect_refused();
}

TEST_F(UserClientDma, AMapThatThePeerRefusedIsForgotten) {
  bring_up_ready();
  const auto which = client.map(whole);
  ASSERT_TRUE(which.has_value());
  peer.refuse(hear(), ENOMEM);
  EXPECT_EQ(wait_for(*which)->status, (error{errc::os, ENOMEM}));
  wish(command::dma_read, bus, 1);
  expect_refused();
  map_whole();
}

TEST_F(UserClientDma, AnAbandonedMapIsForgotten) {
  bring_up_ready();
  const auto which = client.map(whole);
  ASSERT_TRUE(which.has_value());
  client.abandon(*which);
  peer.reply(hear());
  wish(command::dma_read, bus, 1);
  expect_refused();
}

TEST_F(UserClientDma, WishesThatWantNoAnswerGetNone) {
  bring_up_ready();
  map_whole();
  const byte_vector payload =
      bytes_of(dma_access_payload{.iova = bus, .count = 1}, std::uint8_t{9});
  peer.say(command_header(1, command::dma_write, payload.size(), false), payload);
  peer.say(command_header(2, command::dma_read, 3, false), byte_vector(3));
  settle();
  EXPECT_TRUE(peer.heard.empty());
  EXPECT_EQ(whole.address[0], std::byte{9});
}

TEST_F(UserClientDma, CommandsThatOnlyClientsSendAreRefused) {
  bring_up_ready();
  wish(command::region_read, 0, 4);
  expect_refused();
}

TEST_F(UserClientDma, AFloodOfLargeWishesIsAnsweredInOrderThoughTheAnswersDoNotFit) {
  bring_up_ready();
  map_whole();
  constexpr std::size_t wishes = 6;  // six megabytes of answers, room for two
  for (std::size_t i = 0; i < wishes; ++i) {
    wish(command::dma_read, bus + i * page, mib);
  }
  for (int i = 0; i < turns_max; ++i) {
    peer.flush();  // it asks on, and does not read what is answered
    client.advance(now);
  }
  EXPECT_EQ(client.state(), transport_state::ready);
  for (std::size_t i = 0; i < wishes; ++i) {
    expect_read(i * page, mib);
  }
}

}  // namespace
}  // namespace runnel::vfio
