// Goal: no client, however slow, rude or short-lived, blocks the server, leaks anything, or makes
// the model do something after it has let go. Method: server, model and raw client in one thread
// over a channel that cuts everything, many seeds, a clock that the test moves.

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "drivers/vfio_user/server_testing.h"

namespace runnel::vfio_user {
namespace {

using namespace testing;  // NOLINT(google-build-using-namespace): this test's own helpers

bytes access_bytes(std::uint64_t offset, std::uint32_t region, std::uint32_t count) {
  return bytes_of(region_access_payload{.offset = offset, .region = region, .count = count});
}

TEST(ServerConnection, QemuIsAnsweredInTheFormItAccepts) {
  hosted_model host{1};
  std::string text =
      R"({"capabilities": {"pgsizes": 4096, "max_msg_fds": 16, "max_dma_maps": 65535, )"
      R"("max_data_xfer_size": 1048576, "migration": {"max_bitmap_size": 268435456, )"
      R"("pgsize": 4096}, "write_multiple": true}})";
  text += '\0';
  const bytes proposal = bytes_of(version_numbers{.major = 0, .minor = 0}) + text_bytes(text);
  const message reply = host.call(command::version, proposal);
  EXPECT_EQ(reply.head.flags, 1U);
  EXPECT_LE(reply.head.size, 180U);
  EXPECT_LE(reply.head.size, sizeof(header) + proposal.size());
  const auto said = parse_version(reply.payload);
  ASSERT_TRUE(said);
  EXPECT_EQ(said->numbers.minor, 0);  // never more than was proposed
  EXPECT_LE(said->limits.max_msg_fds, 16U);
  EXPECT_TRUE(host.served->connected());
  EXPECT_EQ(host.model.log, std::vector<std::string>{"open"});
}

TEST(ServerConnection, AVersionWithoutTextIsEnoughAndALaterMinorIsLowered) {
  hosted_model host{2};
  const message reply =
      host.call(command::version, bytes_of(version_numbers{.major = 0, .minor = 99}));
  EXPECT_EQ(parse_version(reply.payload)->numbers.minor, version_minor);
  EXPECT_EQ(host.introduce().errno_value(), EINVAL);  // once is enough
  EXPECT_TRUE(host.served->connected());
}

TEST(ServerConnection, WhoeverBeginsWronglyIsEndedWithAReason) {
  struct row {
    const char* what;
    bytes wire;
    const char* hint;
  };
  const auto command_of = &hosted_model::command_bytes;
  const std::vector<row> rows{
      {"another command first", command_of(1, command::device_get_info, bytes(16), true),
       "first message is not VERSION"},
      {"another major",
       command_of(1, command::version, bytes_of(version_numbers{.major = 1}), true),
       "another version"},
      {"no numbers", command_of(1, command::version, bytes(3), true), "another version"},
      {"a reply", bytes_of(header{.what = command::version, .size = 16, .flags = 1}),
       "a reply that nobody asked for"},
      {"too small a size", bytes_of(header{.what = command::version, .size = 15}), ""},
      {"too large a size", bytes_of(header{.what = command::version, .size = 1U << 30U}), ""},
      {"HTTP", text_bytes("GET / HTTP/1.1\r\nHost: example\r\n\r\n"), ""},
  };
  for (const row& each : rows) {
    SCOPED_TRACE(each.what);
    hosted_model host{3, {.name = "vfio-user:/a.sock"}};
    host.send_bytes(each.wire);
    host.turn();
    EXPECT_EQ(host.served->state(), server_state::idle);
    ASSERT_TRUE(host.served->last_end());
    EXPECT_EQ(host.served->last_end()->what.code, errc::protocol);
    EXPECT_EQ(host.served->last_end()->object, "vfio-user:/a.sock");
    EXPECT_NE(host.served->last_end()->hint.find(each.hint), std::string::npos)
        << host.served->last_end()->hint;
    EXPECT_TRUE(host.model.log.empty());  // never opened, so never closed
    host.connect();
    EXPECT_EQ(host.introduce().errno_value(), 0);  // the next one is served
  }
}

TEST(ServerConnection, SilentClientsAreEndedAtTheDeadlineAndNotBefore) {
  hosted_model host{4, {.client_deadline = 10s}};
  host.turn(1);
  EXPECT_EQ(host.next_call, host.now + 10s);
  host.turn(1, 10s - 1ns);
  EXPECT_EQ(host.served->state(), server_state::connected);
  host.turn(2, 1ns);
  EXPECT_EQ(host.served->state(), server_state::idle);
  EXPECT_EQ(host.served->last_end()->what.code, errc::timed_out);
}

TEST(ServerConnection, AnIntroducedClientMayBeIdleForEver) {
  hosted_model host{5};
  host.introduce();
  host.turn(1);
  EXPECT_EQ(host.next_call, never);
  host.turn(3, 24h);
  EXPECT_TRUE(host.served->connected());
}

TEST(ServerConnection, AHalfMessageIsNotWaitedForLonger) {
  hosted_model host{6, {.client_deadline = 10s}};
  host.introduce();
  bytes half = hosted_model::command_bytes(1, command::region_write, bytes(500), true);
  half.resize(100);
  host.send_bytes(half);
  host.turn(20);
  host.turn(1, 9s);
  EXPECT_TRUE(host.served->connected());
  host.send_bytes(bytes(1));  // a drop now and then does not count
  host.turn(5);
  host.turn(3, 1s);
  EXPECT_EQ(host.served->state(), server_state::idle);
  EXPECT_EQ(host.served->last_end()->what.code, errc::timed_out);
}

TEST(ServerConnection, AClientThatNeverReadsIsHeldBackAndThenEnded) {
  hosted_model host{7, {.client_deadline = 10s}};
  host.introduce();
  const bytes read =
      hosted_model::command_bytes(1, command::region_read, access_bytes(0, 0, 0x4000), true);
  int sent = 0;
  while (sent < 10'000 && host.send_bytes(read, {}, 200)) {
    ++sent;
  }
  EXPECT_LT(sent, 10'000);  // bounded: the server does not buffer without end
  EXPECT_TRUE(host.served->connected());
  EXPECT_LE(host.next_call, host.now + 1ms);
  host.turn(3, 10s);
  EXPECT_EQ(host.served->state(), server_state::idle);
  EXPECT_EQ(host.served->last_end()->what.code, errc::timed_out);
}

TEST(ServerConnection, EveryPlaceToLeaveIsSafeAndLeaksNothing) {
  const unique_fd memory = make_memory(0x10000);
  const int fd = memory.get();
  const dma_map_payload map{.argsz = 32, .flags = 3, .offset = 0, .iova = 0x10000, .size = 0x10000};
  const bytes stream =
      hosted_model::command_bytes(1, command::version, bytes_of(version_numbers{}), true) +
      hosted_model::command_bytes(2, command::device_get_info,
                                  bytes_of(device_info_payload{.argsz = 16}), true) +
      hosted_model::command_bytes(3, command::region_read, access_bytes(0, 0, 64), true);
  const bytes with_fd = hosted_model::command_bytes(4, command::dma_map, bytes_of(map), true);
  const std::size_t before = open_descriptors();
  for (std::size_t length = 0; length <= stream.size() + with_fd.size(); ++length) {
    SCOPED_TRACE(length);
    hosted_model host{length};
    const std::size_t plain = std::min(length, stream.size());
    host.send_bytes({stream.begin(), stream.begin() + static_cast<std::ptrdiff_t>(plain)});
    if (length > plain) {
      host.send_bytes(
          {with_fd.begin(), with_fd.begin() + static_cast<std::ptrdiff_t>(length - plain)},
          {&fd, 1});
    }
    host.turn(static_cast<unsigned>(length % 7));
    host.leave();
    host.turn();
    EXPECT_EQ(host.served->state(), server_state::idle);
    EXPECT_EQ(host.served->last_end()->what.code, errc::device_gone);
  }
  EXPECT_EQ(open_descriptors(), before);
}

TEST(ServerConnection, RequestsOwedToAClientThatLeftAreDroppedOnceTheModelIsQuiet) {
  hosted_model host{8};
  host.introduce();
  host.model.answers.insert_or_assign("read", answer::later());
  host.model.quiet = false;
  host.send(command::region_read, access_bytes(0, 0, 64));
  host.turn();
  ASSERT_EQ(host.model.owed.size(), 1U);
  const std::span<std::byte> borrowed = host.model.last_read;
  host.leave();
  host.turn(1);  // the server does not read now, so it learns of it by writing or at the answer
  host.served->reply(host.model.owed[0], 0);
  host.turn(5);
  EXPECT_EQ(host.served->state(), server_state::closing);
  EXPECT_LE(host.next_call, host.now + 1ms);
  std::ranges::fill(borrowed, std::byte{1});  // still the model's to write to
  EXPECT_EQ(host.model.client->map_count(), 0U);
  host.served->reply(host.model.owed[0], 0);  // too late, and ignored
  host.model.quiet = true;
  host.turn(1);
  EXPECT_EQ(host.served->state(), server_state::idle);
  EXPECT_EQ(host.model.log.back(), "close");
}

TEST(ServerConnection, AClientIsServedAfterAnother) {
  hosted_model host{9};
  const unique_fd memory = make_memory(0x1000);
  for (int round = 0; round < 3; ++round) {
    EXPECT_EQ(host.introduce().errno_value(), 0);
    EXPECT_EQ(host.model.client->map_count(), 0U);
    EXPECT_EQ(host.map(0x1000, 0x1000, memory.get()).errno_value(), 0);
    EXPECT_EQ(host.model.client->map_count(), 1U);
    host.leave();
    host.turn();
    EXPECT_EQ(host.served->state(), server_state::idle);
    EXPECT_TRUE(host.served->last_end()->hint.empty());  // it left in peace
    host.connect();
  }
}

TEST(ServerConnection, AnIdOfAnEarlierClientMeansNothingToTheNext) {
  hosted_model host{10};
  host.introduce();
  host.model.answers.insert_or_assign("reset", answer::later());
  host.send(command::device_reset);
  host.turn();
  ASSERT_EQ(host.model.owed.size(), 1U);
  host.served->disconnect(
      {.what = {errc::cancelled, 0}, .operation = "stop", .object = "", .hint = ""});
  host.turn();
  EXPECT_EQ(host.served->last_end()->what.code, errc::cancelled);
  host.connect();
  host.introduce();
  host.send(command::device_reset);
  host.turn();
  ASSERT_EQ(host.model.owed.size(), 2U);
  host.served->reply(host.model.owed[0], EIO);
  host.turn();
  host.served->reply(host.model.owed[1], 0);
  EXPECT_EQ(host.receive()->errno_value(), 0);
}

TEST(ServerConnection, PipelinedRequestsAreAnsweredInOrderHoweverLateTheModelIs) {
  for (std::uint64_t seed = 1; seed <= 40; ++seed) {
    SCOPED_TRACE(seed);
    hosted_model host{seed};
    host.introduce();
    host.model.answers.insert_or_assign("read", answer::later());
    bytes stream;
    constexpr std::uint16_t count = 24;
    for (std::uint16_t id = 0; id < count; ++id) {
      const bool posted = id % 3 == 1;
      stream =
          std::move(stream) +
          hosted_model::command_bytes(
              id, id % 2 == 0 ? command::region_read : command::region_write,
              id % 2 == 0 ? access_bytes(id, 0, 4) : access_bytes(id, 0, 4) + bytes(4), !posted);
    }
    host.send_bytes(stream);
    std::size_t paid = 0;
    for (std::uint16_t id = 0; id < count; ++id) {
      host.turn(200);
      while (paid < host.model.owed.size()) {
        EXPECT_EQ(host.model.owed.size(), paid + 1);  // never two at a time
        host.served->reply(host.model.owed[paid++], 0);
        host.turn(200);
      }
      if (id % 3 == 1) {
        continue;  // posted: no reply
      }
      const auto reply = host.receive();
      ASSERT_TRUE(reply);
      EXPECT_EQ(reply->head.id, id);
    }
    EXPECT_FALSE(host.receive_soon());
  }
}

TEST(ServerConnection, WorkPerCallIsBounded) {
  hosted_model host{11, {.messages_max = 4}};
  host.introduce();
  host.model.log.clear();
  bytes stream;
  for (std::uint16_t id = 0; id < 100; ++id) {
    stream =
        std::move(stream) + hosted_model::command_bytes(id, command::region_write,
                                                        access_bytes(0, 0, 1) + bytes(1), false);
  }
  host.send_bytes_at_once(stream);
  std::size_t before = 0;
  bool stopped_at_budget = false;
  for (int turn = 0; turn < 1000 && host.model.log.size() < 100; ++turn) {
    host.turn(1);
    EXPECT_LE(host.model.log.size() - before, 4U);
    if (host.model.log.size() - before == 4U && host.model.log.size() < 100) {
      stopped_at_budget = true;
      EXPECT_EQ(host.next_call, host.now);  // and says that there is more
    }
    before = host.model.log.size();
  }
  EXPECT_EQ(host.model.log.size(), 100U);
  EXPECT_TRUE(stopped_at_budget);
}

TEST(ServerConnection, ShrunkMemoryEndsTheClient) {
  hosted_model host{12};
  host.introduce();
  const unique_fd memory = make_memory(0x2000);
  ASSERT_EQ(host.map(0x1000, 0x2000, memory.get()).errno_value(), 0);
  siginfo_t touch{};
  touch.si_code = BUS_ADRERR;
  touch.si_addr = host.model.last_map->address;
  ASSERT_TRUE(handle_sigbus(touch));
  host.turn();
  EXPECT_EQ(host.served->state(), server_state::idle);
  EXPECT_NE(host.served->last_end()->hint.find("shrank"), std::string::npos);
  host.connect();
  EXPECT_EQ(host.introduce().errno_value(), 0);
  EXPECT_EQ(host.map(0x1000, 0x2000, memory.get()).errno_value(), 0);
  host.turn();
  EXPECT_TRUE(host.served->connected());
}

}  // namespace
}  // namespace runnel::vfio_user
