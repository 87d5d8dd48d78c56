#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <cstddef>
#include <memory>
#include <optional>
#include <utility>

#include "drivers/vfio/user_client.h"
#include "tests/sim/scripted_peer.h"

namespace runnel::sim {

/// A vfio-user client whose server is a script, on a clock that moves only when told to.
class client_and_peer : public testing::Test {
 protected:
  static constexpr std::uint64_t seed = 20;
  /// More than any exchange needs, though the channel cuts it into odd pieces.
  static constexpr int turns_max = 2000;

  using channel_pair =
      std::pair<std::unique_ptr<vfio_user::channel>, std::unique_ptr<vfio_user::channel>>;

  client_and_peer() : client_and_peer{vfio_user::memory_channel_pair(seed)} {}
  explicit client_and_peer(channel_pair ends)
      : peer{std::move(ends.second)},
        client{std::move(ends.first), {.object = "vfio-user:/a.sock"}} {}

  void turn() {
    client.advance(now);
    peer.advance();
  }
  void settle() {
    for (int i = 0; i < turns_max; ++i) {
      turn();
    }
  }
  void bring_up() {
    for (int i = 0; i < turns_max && client.state() == vfio::transport_state::connecting; ++i) {
      turn();
    }
  }
  void bring_up_ready() {
    bring_up();
    ASSERT_EQ(client.state(), vfio::transport_state::ready) << "seed " << seed;
  }
  /// The next message that waits for the test's answer.
  [[nodiscard]] scripted_peer::message hear() {
    for (int i = 0; i < turns_max && peer.heard.empty(); ++i) {
      turn();
    }
    if (peer.heard.empty()) {
      ADD_FAILURE() << "nothing was heard, seed " << seed;
      return {};
    }
    auto first = std::move(peer.heard.front());
    peer.heard.erase(peer.heard.begin());
    return first;
  }
  [[nodiscard]] std::optional<vfio::transport_reply> wait_for(ticket which) {
    auto reply = client.take(which);
    for (int i = 0; i < turns_max && !reply; ++i) {
      turn();
      reply = client.take(which);
    }
    return reply;
  }
  void expect_gone(errc why) {
    settle();
    ASSERT_EQ(client.state(), vfio::transport_state::gone) << "seed " << seed;
    EXPECT_EQ(client.reason().what.code, why) << client.reason().message();
    EXPECT_EQ(client.reason().object, "vfio-user:/a.sock");
  }

  instant now{};
  scripted_peer peer;
  vfio::user_client client;
};

}  // namespace runnel::sim
