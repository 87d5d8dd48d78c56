// Goal: what a driver asks of the client reaches the peer as vfio-user messages, and what an honest
// peer answers reaches the driver. Method: a scripted peer over a channel that cuts messages into
// odd pieces, on a virtual clock. How the client bears a hostile peer is in another file.
#include "drivers/vfio/user_client.h"

#include <gtest/gtest.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <vector>

#include "drivers/vfio/uapi/vfio.h"
#include "tests/sim/client_and_peer.h"

namespace runnel::vfio {
namespace {

using sim::bytes_of;
using sim::scripted_peer;
using std::chrono::milliseconds;
using std::chrono::seconds;
using vfio_user::command;
using vfio_user::region_access_payload;

constexpr std::uint32_t config = 7;
constexpr std::uint32_t msix = 2;

class UserClient : public sim::client_and_peer {
 protected:
  /// Posts `value` again and again until it has left; nobody else sends meanwhile.
  [[nodiscard]] bool post(std::uint32_t value) {
    for (int i = 0; i < turns_max; ++i) {
      if (client.region_post(0, 0x1000, bytes_of(value))) {
        return true;
      }
    }
    return false;
  }
  void say_version_at_bring_up(std::uint16_t minor, const char* text) {
    peer.answers[command::version] = [minor, text](scripted_peer& from,
                                                   const scripted_peer::message& asked) {
      from.say_version(asked, 0, minor, text);
    };
    bring_up_ready();
  }
};

TEST_F(UserClient, BringUpLearnsRegionsAndInterrupts) {
  bring_up_ready();
  EXPECT_EQ(client.info().region_count, 9U);
  EXPECT_EQ(client.info().irq_count, 5U);
  EXPECT_EQ(client.region_at(0).size, scripted_peer::bar_bytes);
  ASSERT_EQ(client.region_at(0).areas.size(), 1U);
  EXPECT_EQ(client.region_at(0).areas[0].offset, 0x1000U);
  EXPECT_EQ(client.region_at(config).size, scripted_peer::config_bytes);
  EXPECT_TRUE(client.region_at(config).areas.empty());
  EXPECT_EQ(client.irq_at(msix).count, scripted_peer::vectors);
}

TEST_F(UserClient, RegionsAndInterruptsBeyondTheDevicesAreAbsent) {
  bring_up_ready();
  EXPECT_EQ(client.region_at(5).size, 0U);
  EXPECT_EQ(client.region_at(9).size, 0U);
  EXPECT_EQ(client.region_at(~0U).size, 0U);
  EXPECT_EQ(client.irq_at(0).count, 0U);
  EXPECT_EQ(client.irq_at(~0U).count, 0U);
}

TEST_F(UserClient, ARegionThatThePeerDoesNotKnowIsAbsent) {
  peer.answers[command::device_get_region_info] = [](scripted_peer& from, const auto& asked) {
    from.refuse(asked, EINVAL);
  };
  bring_up_ready();
  EXPECT_EQ(client.region_at(0).size, 0U);
}

TEST_F(UserClient, AVersionWithoutTextMeansTheSpecificationsDefaults) {
  say_version_at_bring_up(1, "");
  EXPECT_EQ(client.limits().maps_max, 65535U);
  EXPECT_EQ(client.limits().page_bytes, 4096U);
}

TEST_F(UserClient, AVersionWithAnEmptyObjectIsFine) {
  say_version_at_bring_up(0, "{}");
}

TEST_F(UserClient, LimitsOfThePeerBecomeOurs) {
  say_version_at_bring_up(1, R"({"capabilities":{"max_dma_maps":7,"pgsizes":2097152,)"
                             R"("max_data_xfer_size":16,"twin_socket":{"supported":true}}})");
  EXPECT_EQ(client.limits().maps_max, 7U);
  EXPECT_EQ(client.limits().page_bytes, 2 * mib);
  EXPECT_TRUE(client.region_read(0, 0, 16).has_value());
  EXPECT_EQ(client.region_read(0, 0, 17).error().code, errc::invalid);
}

TEST_F(UserClient, NothingCanBeStartedBeforeItIsReady) {
  EXPECT_EQ(client.region_read(0, 0, 4).error().code, errc::busy);
  EXPECT_EQ(client.reset().error().code, errc::busy);
  EXPECT_TRUE(client.map_region(0, 0x1000, 0x1000).empty());
}

TEST_F(UserClient, AReadCarriesItsAddressAndReturnsTheBytes) {
  bring_up_ready();
  const auto which = client.region_read(0, 0x14, 4);
  ASSERT_TRUE(which.has_value());
  const auto asked = hear();
  const auto where = asked.as<region_access_payload>();
  EXPECT_EQ(where.offset, 0x14U);
  EXPECT_EQ(where.region, 0U);
  EXPECT_EQ(where.count, 4U);
  peer.reply(asked, bytes_of(where, std::uint32_t{0xcafe}));
  const auto reply = wait_for(*which);
  ASSERT_TRUE(reply.has_value());
  EXPECT_EQ(reply->status, error{});
  EXPECT_EQ(reply->value, 0xcafeU);
  EXPECT_EQ(reply->data.size(), 4U);
}

TEST_F(UserClient, AnErrorOfThePeerKeepsItsErrno) {
  bring_up_ready();
  const auto which = client.region_read(0, 0, 8);
  ASSERT_TRUE(which.has_value());
  peer.refuse(hear(), EPERM);
  EXPECT_EQ(wait_for(*which)->status, (error{errc::os, EPERM}));
  EXPECT_EQ(client.state(), transport_state::ready);
}

TEST_F(UserClient, AccessesOutsideTheRegionAreRefusedHere) {
  bring_up_ready();
  const std::array<std::byte, 8> bytes{};
  for (const std::uint64_t offset : {scripted_peer::bar_bytes - 7ULL, ~0ULL, ~0ULL - 3}) {
    EXPECT_EQ(client.region_read(0, offset, 8).error().code, errc::invalid);
    EXPECT_EQ(client.region_write(0, offset, bytes).error().code, errc::invalid);
    EXPECT_EQ(client.region_post(0, offset, bytes).error().code, errc::invalid);
  }
  EXPECT_EQ(client.region_read(0, 0, 0).error().code, errc::invalid);
  EXPECT_EQ(client.region_read(0, 0, 4097).error().code, errc::invalid);
  EXPECT_EQ(client.region_read(1, 0, 4).error().code, errc::invalid);
}

TEST_F(UserClient, PostedWritesWantNoReplyAndKeepTheirOrder) {
  constexpr std::uint32_t posts = 100;
  bring_up_ready();
  for (std::uint32_t value = 0; value < posts; ++value) {
    ASSERT_TRUE(post(value));
  }
  settle();
  std::uint32_t next = 0;
  for (const auto& asked : peer.heard) {
    EXPECT_FALSE(asked.head.wants_reply());
    const auto bytes_of_post = [&asked](std::uint32_t value) {
      return bytes_of(asked.as<region_access_payload>(), value);
    };
    const bool again = next != 0 && asked.payload == bytes_of_post(next - 1);  // it left in pieces
    EXPECT_TRUE(again || asked.payload == bytes_of_post(next));
    next += again ? 0U : 1U;
  }
  EXPECT_EQ(next, posts);
}

TEST_F(UserClient, SixtyFourOperationsFitAndTheNextIsToldToWait) {
  bring_up_ready();
  std::vector<ticket> tickets;
  for (std::size_t i = 0; i < device_transport::operations_max; ++i) {
    const auto which = client.reset();
    ASSERT_TRUE(which.has_value());
    tickets.push_back(*which);
  }
  EXPECT_EQ(client.reset().error().code, errc::queue_full);
  peer.reply(hear());
  ASSERT_TRUE(wait_for(tickets[0]).has_value());
  EXPECT_TRUE(client.reset().has_value());
}

TEST_F(UserClient, ATimeoutEndsOneOperationAndItsLateReplyIsDropped) {
  bring_up_ready();
  const auto slow = client.reset();
  ASSERT_TRUE(slow.has_value());
  const auto asked = hear();
  now += seconds{4};
  EXPECT_FALSE(wait_for(*slow).has_value());
  now += seconds{1};
  EXPECT_EQ(wait_for(*slow)->status.code, errc::timed_out);
  peer.reply(asked);
  settle();
  EXPECT_EQ(client.state(), transport_state::ready);
}

TEST_F(UserClient, AnIdleClientHasNoDeadlineHoweverLateItIsAsked) {
  bring_up_ready();
  now += seconds{100};
  const auto which = client.reset();
  ASSERT_TRUE(which.has_value());
  EXPECT_FALSE(wait_for(*which).has_value());
  peer.reply(hear());
  EXPECT_EQ(wait_for(*which)->status, error{});
  EXPECT_EQ(client.advance(now), never);
}

TEST_F(UserClient, EventfdsTravelInRunsThatThePeerCanTake) {
  say_version_at_bring_up(1, R"({"capabilities":{"max_msg_fds":2}})");
  const unique_fd event{::eventfd(0, EFD_CLOEXEC)};
  const int fd = event.get();
  const std::array eventfds{fd, fd, fd, -1};
  const auto which = client.set_irqs(msix, 0, eventfds);
  ASSERT_TRUE(which.has_value());
  struct run {
    std::uint32_t start, count;
    std::size_t fds;
  };
  for (const run expected : {run{0, 2, 2}, run{2, 1, 1}, run{3, 1, 0}}) {
    const auto asked = hear();
    const auto set = asked.as<uapi::irq_set>();
    EXPECT_EQ(set.flags, 0x24U);
    EXPECT_EQ(set.index, msix);
    EXPECT_EQ(set.start, expected.start);
    EXPECT_EQ(set.count, expected.count);
    EXPECT_EQ(asked.fds.size(), expected.fds);
    EXPECT_FALSE(client.take(*which).has_value()) << "not all runs are answered";
    peer.reply(asked);
  }
  EXPECT_EQ(wait_for(*which)->status, error{});
}

TEST_F(UserClient, AnEmptyListDisablesTheInterruptAsAWhole) {
  bring_up_ready();
  ASSERT_TRUE(client.set_irqs(msix, 0, {}).has_value());
  const auto set = hear().as<uapi::irq_set>();
  EXPECT_EQ(set.flags, 0x21U);
  EXPECT_EQ(set.count, 0U);
}

TEST_F(UserClient, AskingVectorsToFireIsARangeWithoutData) {
  bring_up_ready();
  ASSERT_TRUE(client.trigger_irqs({.index = msix, .start = 2, .count = 1}).has_value());
  const auto set = hear().as<uapi::irq_set>();
  EXPECT_EQ(set.flags, 0x21U);
  EXPECT_EQ(set.start, 2U);
  EXPECT_EQ(set.count, 1U);
}

TEST_F(UserClient, VectorsBeyondTheInterruptAreRefusedHere) {
  bring_up_ready();
  EXPECT_EQ(client.trigger_irqs({.index = msix, .start = 0, .count = 0}).error().code,
            errc::invalid)
      << "which would disable it";
  const std::array none{-1, -1};
  EXPECT_EQ(client.set_irqs(msix, 3, none).error().code, errc::invalid);
  EXPECT_EQ(client.set_irqs(msix, ~0U, none).error().code, errc::invalid);
  EXPECT_EQ(client.set_irqs(0, 0, none).error().code, errc::invalid);
}

TEST_F(UserClient, AFeatureReturnsWhatThePeerHas) {
  bring_up_ready();
  const std::uint32_t flags = 1 | uapi::feature_flags::get;
  const std::array<std::byte, 8> room{};
  const auto which = client.device_feature(flags, room);
  ASSERT_TRUE(which.has_value());
  const auto asked = hear();
  EXPECT_EQ(asked.as<uapi::device_feature>().argsz, 16U);
  EXPECT_EQ(asked.as<uapi::device_feature>().flags, flags);
  peer.reply(asked, bytes_of(uapi::device_feature{.argsz = 16, .flags = flags}, std::uint64_t{7}));
  EXPECT_EQ(wait_for(*which)->value, 7U);
}

TEST_F(UserClient, WhatThisTransportCannotDoIsUnsupported) {
  bring_up_ready();
  EXPECT_EQ(client.hot_reset().error().code, errc::unsupported);
  EXPECT_EQ(client.set_dirty_tracking(true).error().code, errc::unsupported);
  ASSERT_EQ(client.allowed_ranges().size(), 1U);
  EXPECT_EQ(client.allowed_ranges()[0].last, ~std::uint64_t{0});
}

TEST_F(UserClient, AnAreaIsSharedWithTheFileOfThePeer) {
  bring_up_ready();
  const auto area = client.map_region(0, 0x1000, 0x1000);
  ASSERT_EQ(area.size(), 0x1000U);
  area[8] = std::byte{42};
  std::byte seen{};
  ASSERT_EQ(::pread(peer.bar_file.get(), &seen, 1, 0x1008), 1);
  EXPECT_EQ(seen, std::byte{42});
}

TEST_F(UserClient, OnlyAreasThatWereOfferedAreMapped) {
  bring_up_ready();
  EXPECT_TRUE(client.map_region(0, 0, 0x1000).empty());
  EXPECT_TRUE(client.map_region(0, 0x1000, 0x1001).empty());
  EXPECT_TRUE(client.map_region(0, 0x1000, 0).empty());
  EXPECT_TRUE(client.map_region(0, ~0ULL, 2).empty());
  EXPECT_TRUE(client.map_region(config, 0, 0x100).empty());
  EXPECT_TRUE(client.map_region(99, 0, 0x1000).empty());
}

TEST_F(UserClient, WhenThePeerLeavesEveryTicketAndEveryCallSaysSo) {
  bring_up_ready();
  const auto before = client.reset();
  ASSERT_TRUE(before.has_value());
  peer.leave();
  expect_gone(errc::device_gone);
  EXPECT_EQ(client.take(*before)->status.code, errc::device_gone);
  EXPECT_EQ(client.region_read(0, 0, 4).error().code, errc::device_gone);
  EXPECT_EQ(client.region_post(0, 0, std::array<std::byte, 4>{}).error().code, errc::device_gone);
  EXPECT_EQ(client.advance(now + seconds{100}), never);
}

TEST_F(UserClient, TheFirstCallTellsHowLongItsQuestionMayWait) {
  EXPECT_EQ(client.advance(now), now + milliseconds{1500});
}

TEST_F(UserClient, ASilentListenerIsGivenUpSoonAndNamed) {
  peer.answers.erase(command::version);
  bring_up();
  now += milliseconds{1400};
  turn();
  EXPECT_EQ(client.state(), transport_state::connecting);
  now += milliseconds{100};
  expect_gone(errc::timed_out);
  EXPECT_EQ(client.reason().message(),
            "agree on a version with vfio-user:/a.sock: timed out; it does not answer: is it a "
            "vfio-user server, and free?");
}

TEST_F(UserClient, EveryQuestionOfTheBringUpHasADeadline) {
  peer.answers.erase(command::device_get_irq_info);
  bring_up();
  EXPECT_EQ(client.advance(now), now + seconds{5});
  now += seconds{5};
  expect_gone(errc::timed_out);
  EXPECT_EQ(client.reason().operation, "ask for the interrupts of");
}

}  // namespace
}  // namespace runnel::vfio
