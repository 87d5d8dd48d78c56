// Goal: a client over a real socket neither does too much at once, nor leaves behind what a full
// socket did not take. Method: the scripted peer reads only when the test lets it.
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <array>
#include <chrono>
#include <cstdint>

#include "drivers/vfio/user_client.h"
#include "drivers/vfio_user/socket_channel.h"
#include "tests/sim/client_and_peer.h"

namespace runnel::vfio {
namespace {

using sim::byte_vector;
using sim::bytes_of;
using vfio_user::command;
using vfio_user::region_access_payload;

/// A channel in memory pauses too often for a long burst.
class UserClientOnASocket : public sim::client_and_peer {
 protected:
  UserClientOnASocket() : client_and_peer{socket_pair()} {}

  static channel_pair socket_pair() {
    std::array<int, 2> ends{-1, -1};
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends.data()), 0);
    return {vfio_user::make_socket_channel(unique_fd{ends[0]}),
            vfio_user::make_socket_channel(unique_fd{ends[1]})};
  }

  [[nodiscard]] result<> post(std::uint32_t value) {
    return client.region_post(0, 0x1000, bytes_of(value));
  }
  /// Posts 0, 1, ... until the socket is full. @return how many left
  [[nodiscard]] std::uint32_t fill_socket() {
    constexpr std::uint32_t posts_max = 100'000;
    std::uint32_t posted = 0;
    while (posted < posts_max && post(posted)) {
      ++posted;
    }
    EXPECT_LT(posted, posts_max) << "nothing was ever full";
    return posted;
  }
  /// The next message, a post of `value`.
  void expect_post(std::uint32_t value) {
    const auto asked = hear();
    ASSERT_EQ(asked.head.what, command::region_write);
    EXPECT_EQ(asked.payload, bytes_of(asked.as<region_access_payload>(), value));
  }
};

TEST_F(UserClientOnASocket, OneAdvanceHandlesABoundedNumberOfMessagesAndAsksToBeCalledAgain) {
  bring_up_ready();
  constexpr int messages = 150;
  for (int i = 0; i < messages; ++i) {
    peer.say(vfio_user::command_header(1, command::dma_write, 3, false), byte_vector(3));
  }
  peer.flush();
  EXPECT_EQ(client.advance(now), now);
  EXPECT_EQ(client.advance(now), now);
  EXPECT_EQ(client.advance(now), never);
}

TEST_F(UserClientOnASocket, APostThatFindsNoRoomIsRefusedAndLeavesOnceWhenItIsPostedAgain) {
  bring_up_ready();
  const std::uint32_t posted = fill_socket();
  for (int i = 0; i < 10; ++i) {
    EXPECT_EQ(post(posted).error().code, errc::queue_full);
  }
  EXPECT_EQ(client.advance(now), never) << "nothing was left behind for it";
  for (std::uint32_t value = 0; value < posted; ++value) {
    expect_post(value);
  }
  settle();
  EXPECT_TRUE(peer.heard.empty()) << "what was refused has not left";
  EXPECT_TRUE(post(posted));
  expect_post(posted);
  settle();
  EXPECT_TRUE(peer.heard.empty());
}

TEST_F(UserClientOnASocket, WhatWaitsForRoomIsTriedAgainSoonAndBeforeAnyPost) {
  bring_up_ready();
  const std::uint32_t posted = fill_socket();
  ASSERT_TRUE(client.region_read(0, 0, 4).has_value());
  EXPECT_LE(client.advance(now), now + std::chrono::milliseconds{1});
  EXPECT_EQ(post(posted).error().code, errc::queue_full);
  peer.advance();
  EXPECT_TRUE(post(posted)) << "sends what waits, too";
  for (std::uint32_t value = 0; value < posted; ++value) {
    expect_post(value);
  }
  EXPECT_EQ(hear().head.what, command::region_read);
  expect_post(posted);
}

}  // namespace
}  // namespace runnel::vfio
