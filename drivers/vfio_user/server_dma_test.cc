// Goal: maps come and go at the client's pace while the model is using them, and no region leaves
// before the model has let go of it.
// Method: the sequences that real clients send (firmware's remap storm, a virtual IOMMU's unmaps),
// with a model that answers at once, later, or not at all.

#include <gtest/gtest.h>
#include <sys/socket.h>

#include <string>
#include <vector>

#include "drivers/vfio_user/server_testing.h"
#include "drivers/vfio_user/socket_channel.h"
#include "tests/sim/edge_numbers.h"

namespace runnel::vfio_user {
namespace {

using sim::page;

using namespace testing;  // NOLINT(google-build-using-namespace): this test's own helpers

class ServerDma : public ::testing::Test {
 protected:
  ServerDma() { EXPECT_EQ(host.introduce().errno_value(), 0); }

  [[nodiscard]] bool reaches(std::uint64_t first, std::uint64_t length) const {
    return host.model.client->resolve(iova{first}, length, access::read_write).address != nullptr;
  }
  [[nodiscard]] std::size_t maps() const { return host.model.client->map_count(); }
  void say(const char* operation, answer given) {
    host.model.answers.insert_or_assign(operation, given);
  }

  hosted_model host{7, {.unmaps_max = 8}};
  unique_fd memory = make_memory(256 * page);
};

TEST_F(ServerDma, TheReplyOfAnUnmapIsItsRequest) {
  EXPECT_TRUE(host.map(0x10000, 2 * page, memory.get()).payload.empty());
  EXPECT_TRUE(reaches(0x10000, 2 * page));
  const message reply = host.unmap(0x10000, 2 * page);
  EXPECT_EQ(reply.payload,
            bytes_of(dma_unmap_payload{.argsz = 24, .iova = 0x10000, .size = 2 * page}));
  EXPECT_FALSE(reaches(0x10000, 1));
  EXPECT_EQ(maps(), 0U);
}

TEST_F(ServerDma, TheModelSeesEachNewRegionOnce) {
  host.map(0x10000, page, memory.get());
  EXPECT_EQ(host.model.last_map->length, page);
  host.map(0x10000, page, memory.get());  // the same again
  EXPECT_EQ(std::ranges::count(host.model.log, "map"), 1);
  EXPECT_EQ(host.map(0xfffc0000, 0x40000, -1, 0, 1).errno_value(), 0);  // firmware, no descriptor
  EXPECT_EQ(host.model.last_map->address, nullptr);
  EXPECT_EQ(host.map(0xfebd1000, page, -1).errno_value(), 0);  // our own doorbells, announced back
  EXPECT_EQ(maps(), 3U);
}

TEST_F(ServerDma, RefusalsCarryTheirErrnoAndChangeNothing) {
  host.map(0x10000, 2 * page, memory.get());
  EXPECT_EQ(host.map(0x11000, page, memory.get()).errno_value(), EEXIST);
  EXPECT_EQ(host.map(0x20000, 300 * page, memory.get()).errno_value(), EINVAL);
  EXPECT_EQ(host.map(0x20001, page, memory.get()).errno_value(), EINVAL);
  EXPECT_EQ(host.map(0x20000, page, host.served->event_fd()).errno_value(), 0);  // none at all
  const std::array two{memory.get(), memory.get()};
  EXPECT_EQ(
      host.call(command::dma_map,
                bytes_of(dma_map_payload{.argsz = 32, .flags = 3, .iova = 0x30000, .size = page}),
                two)
          .errno_value(),
      EINVAL);
  EXPECT_EQ(maps(), 2U);
  say("map", answer::refuse(ENOSPC));
  EXPECT_EQ(host.map(0x40000, page, memory.get()).errno_value(), ENOSPC);
  EXPECT_EQ(maps(), 2U);
  EXPECT_FALSE(reaches(0x40000, 1));
}

TEST_F(ServerDma, UnmapsOfNothingSucceed) {
  host.map(0x10000, page, memory.get());
  EXPECT_EQ(host.unmap(1ULL << 47U, 1ULL << 47U).errno_value(), 0);
  EXPECT_EQ(host.unmap(0x11000, 4 * page).errno_value(), 0);
  EXPECT_EQ(maps(), 1U);
  EXPECT_EQ(host.unmap(0, 0, dma_unmap_flags::all).errno_value(), 0);
  EXPECT_EQ(maps(), 0U);
}

TEST_F(ServerDma, AnUnmapWithAnEdgeInsideAMapIsRefused) {
  host.map(0x10000, 4 * page, memory.get());
  host.map(0x20000, page, memory.get());
  EXPECT_EQ(host.unmap(0x10000, page).errno_value(), EINVAL);
  EXPECT_EQ(host.unmap(0x13000, 0x20 * page).errno_value(), EINVAL);
  EXPECT_EQ(host.unmap(0x11000, page).errno_value(), EINVAL);
  EXPECT_EQ(maps(), 2U);
  EXPECT_EQ(std::ranges::count(host.model.log, "unmap"), 0);
  EXPECT_EQ(host.unmap(0x10000, 0x20 * page).errno_value(), 0);
  EXPECT_EQ(maps(), 0U);
}

TEST_F(ServerDma, AMapWhoseDescriptorWeHaveNoRoomForIsRefusedAlone) {
  host.leave();
  host.turn();
  std::array<int, 2> ends{};
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends.data()), 0);
  host.connect({make_socket_channel(unique_fd{ends[0]}), make_socket_channel(unique_fd{ends[1]})});
  ASSERT_EQ(host.introduce().errno_value(), 0);
  {
    const no_more_descriptors limit;
    EXPECT_EQ(host.map(0x10000, page, memory.get()).errno_value(), EMFILE);
  }
  EXPECT_EQ(maps(), 0U);
  EXPECT_EQ(host.map(0x10000, page, memory.get()).errno_value(), 0);
  EXPECT_TRUE(reaches(0x10000, page));
}

TEST(ServerMaps, AClientGetsAsManyAsTheServerGivesIt) {
  hosted_model host{7, {.maps_max = 2}};
  ASSERT_EQ(host.introduce().errno_value(), 0);
  const unique_fd memory = make_memory(page);
  const auto map = [&](std::uint64_t first) {
    return host.map(first, page, memory.get()).errno_value();
  };
  EXPECT_EQ(map(0x10000), 0);
  EXPECT_EQ(map(0x20000), 0);
  EXPECT_NE(map(0x30000), 0);
  EXPECT_EQ(host.unmap(0x10000, page).errno_value(), 0);
  EXPECT_EQ(map(0x30000), 0);
}

TEST_F(ServerDma, ManyMapsOfAClientThatLeftAreTakenOutAFewAtATime) {
  for (std::uint64_t i = 0; i < 20; ++i) {
    ASSERT_EQ(host.map(0x10000 + i * page, page, memory.get(), i * page).errno_value(), 0);
  }
  host.leave();
  unsigned calls = 0;
  do {
    const std::size_t before = maps();
    host.turn(1);
    EXPECT_LE(before - maps(), 8U);
    EXPECT_EQ(host.next_call, host.served->state() == server_state::idle ? never : host.now);
  } while (host.served->state() != server_state::idle && ++calls < 100);
  EXPECT_EQ(calls, 2U);
  EXPECT_EQ(std::ranges::count(host.model.log, "close"), 1);
}

TEST_F(ServerDma, AResultThatNobodyTookDoesNotHoldUpTheNextClient) {
  std::array<std::byte, 8> data{};
  ASSERT_TRUE(host.served->dma_read(iova{0x1000}, data));
  host.leave();
  host.turn();
  host.connect();
  ASSERT_EQ(host.introduce().errno_value(), 0);
  const auto again = host.served->dma_read(iova{0x1000}, data);
  ASSERT_TRUE(again);
  EXPECT_FALSE(host.served->take(*again));  // the old result is not its own
}

TEST_F(ServerDma, ARegionStaysUntilTheModelHasLetGo) {
  host.map(0x10000, page, memory.get());
  const region* const used = host.model.last_map;
  std::byte* const address = used->address;
  say("unmap", answer::later());
  host.send(command::dma_unmap,
            bytes_of(dma_unmap_payload{.argsz = 24, .iova = 0x10000, .size = page}));
  EXPECT_FALSE(host.receive_soon());
  EXPECT_EQ(host.model.last_unmap, used);
  EXPECT_FALSE(reaches(0x10000, 1));  // no new I/O starts on it,
  *address = std::byte{1};            // and I/O in flight still has it
  host.served->reply(host.model.owed.at(0), 0);
  EXPECT_EQ(host.receive()->errno_value(), 0);
  EXPECT_EQ(host.map(0x10000, page, memory.get()).errno_value(), 0);
}

TEST_F(ServerDma, EveryRegionOfARangeIsAskedForInTurn) {
  for (std::uint64_t i = 0; i < 3; ++i) {
    host.map(0x10000 + i * page, page, memory.get(), i * page);
  }
  say("unmap", answer::later());
  host.send(command::dma_unmap,
            bytes_of(dma_unmap_payload{.argsz = 24, .iova = 0x10000, .size = 16 * page}));
  for (std::size_t asked = 1; asked <= 3; ++asked) {
    EXPECT_FALSE(host.receive_soon());
    EXPECT_EQ(std::ranges::count(host.model.log, "unmap"), static_cast<std::ptrdiff_t>(asked));
    host.served->reply(host.model.owed.at(0), 0);  // one request, one id
  }
  EXPECT_EQ(host.receive()->errno_value(), 0);
  EXPECT_EQ(maps(), 0U);
}

TEST_F(ServerDma, ARegionTheModelKeepsStaysMappedUntilTheClientLeaves) {
  host.map(0x10000, page, memory.get());
  std::byte* const address = host.model.last_map->address;
  say("unmap", answer::refuse(EBUSY));
  EXPECT_EQ(host.unmap(0x10000, page).errno_value(), EBUSY);
  EXPECT_FALSE(reaches(0x10000, 1));
  *address = std::byte{1};
  EXPECT_EQ(host.map(0x10000, page, memory.get()).errno_value(), EEXIST);
  say("unmap", answer::later());
  host.map(0x20000, page, memory.get());
  host.send(command::dma_unmap,
            bytes_of(dma_unmap_payload{.argsz = 24, .iova = 0x20000, .size = page}));
  host.turn();
  host.served->reply(host.model.owed.at(0), EBUSY);  // the same, said later
  EXPECT_EQ(host.receive()->errno_value(), EBUSY);
  host.leave();
  host.turn();
  host.connect();
  host.introduce();
  EXPECT_EQ(host.map(0x10000, page, memory.get()).errno_value(), 0);
}

TEST_F(ServerDma, AMapMayTakeTheModelAWhile) {
  say("map", answer::later());
  const auto map = [&](std::uint64_t where) {
    const int fd = memory.get();
    host.send(command::dma_map,
              bytes_of(dma_map_payload{.argsz = 32, .flags = 3, .iova = where, .size = page}),
              {&fd, 1});
    EXPECT_FALSE(host.receive_soon());
  };
  map(0x10000);
  host.served->reply(host.model.owed.at(0), 0);
  EXPECT_EQ(host.receive()->errno_value(), 0);
  EXPECT_TRUE(reaches(0x10000, page));
  map(0x20000);
  host.served->reply(host.model.owed.at(1), EIO);
  EXPECT_EQ(host.receive()->errno_value(), EIO);
  EXPECT_FALSE(reaches(0x20000, page));
  EXPECT_EQ(maps(), 1U);
}

TEST_F(ServerDma, ALongUnmapIsSpreadOverManyCalls) {
  for (std::uint64_t i = 0; i < 100; ++i) {
    host.map(0x10000 + i * page, page, memory.get(), i * page);
  }
  host.send(command::dma_unmap,
            bytes_of(dma_unmap_payload{.argsz = 24, .flags = dma_unmap_flags::all}));
  std::size_t before = maps();
  for (int turn = 0; turn < 100 && maps() != 0; ++turn) {
    host.turn(1);
    EXPECT_LE(before - maps(), 8U);
    if (maps() != 0 && maps() != before) {
      EXPECT_EQ(host.next_call, host.now);
    }
    before = maps();
  }
  EXPECT_EQ(host.receive()->errno_value(), 0);
  EXPECT_EQ(maps(), 0U);
}

/// What firmware does while its queues are live: all memory goes, and comes back in slices, with
/// nobody waiting for a reply in between.
TEST_F(ServerDma, FirmwareMayRemapAllMemoryInAStorm) {
  constexpr std::uint64_t end = 256 * page;
  struct slice {
    std::uint64_t first;
    std::uint64_t last;
    std::uint32_t flags;
  };
  const std::vector<slice> slices{{0, 0xc0000, 3},
                                  {0xc0000, 0xc8000, 1},
                                  {0xc8000, 0xe0000, 3},
                                  {0xe0000, 0xf0000, 1},
                                  {0xf0000, end, 3}};
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    SCOPED_TRACE(seed);
    const std::size_t before = open_descriptors();
    {
      hosted_model storm{seed};
      storm.introduce();
      const int fd = memory.get();
      ASSERT_EQ(storm.map(0, end, fd).errno_value(), 0);
      storm.model.answers.insert_or_assign("unmap", answer::later());
      for (int round = 0; round < 4; ++round) {
        const dma_unmap_payload all{.argsz = 24, .iova = 0, .size = end};
        storm.send(command::dma_unmap, bytes_of(all));
        for (const slice& each : slices) {
          const dma_map_payload map{.argsz = 32,
                                    .flags = each.flags,
                                    .offset = each.first,
                                    .iova = each.first,
                                    .size = each.last - each.first};
          storm.send(command::dma_map, bytes_of(map), {&fd, 1});
        }
      }
      std::size_t paid = 0;
      for (std::size_t replies = 0; replies < 4 * (slices.size() + 1); ++replies) {
        std::optional<message> reply;
        for (int attempt = 0; attempt < 100 && !reply; ++attempt) {
          if (!storm.model.owed.empty()) {
            storm.served->reply(storm.model.owed.back(), 0);
            ++paid;
          }
          reply = storm.receive_soon();
        }
        ASSERT_TRUE(reply);
        EXPECT_EQ(reply->errno_value(), 0);
      }
      EXPECT_GE(paid, 4U);
      client_memory& client = *storm.model.client;
      EXPECT_EQ(client.map_count(), slices.size());
      EXPECT_NE(client.resolve(iova{0}, end, access::read).address, nullptr);
      EXPECT_EQ(client.resolve(iova{0}, end, access::write).address, nullptr);
    }
    EXPECT_EQ(open_descriptors(), before);
  }
}

TEST_F(ServerDma, MemoryThatIsNotSharedIsReachedByMessages) {
  bytes data(16);
  const auto read = host.served->dma_read(iova{0x5000}, data);
  ASSERT_TRUE(read);
  auto asked = host.receive();
  ASSERT_TRUE(asked);
  EXPECT_EQ(asked->head.what, command::dma_read);
  // The client may have requests of its own first.
  EXPECT_EQ(host.call(command::device_reset).errno_value(), 0);
  host.send_bytes(bytes_of(reply_header(asked->head, 32)) + asked->payload +
                  bytes(16, std::byte{8}));
  host.turn();
  EXPECT_TRUE(host.served->take(*read)->has_value());
  EXPECT_EQ(data[15], std::byte{8});

  const auto write = host.served->dma_write(iova{0x6000}, data);
  ASSERT_TRUE(write);
  asked = host.receive();
  EXPECT_EQ(asked->payload.size(), 32U);
  host.send_bytes(bytes_of(error_header(asked->head, ENODEV)));
  host.turn();
  EXPECT_EQ(host.served->take(*write)->error(), (error{errc::os, ENODEV}));
}

TEST_F(ServerDma, WeNeverAskAClientThatWaitsForUs) {
  say("reset", answer::later());
  host.send(command::device_reset);
  host.turn();
  bytes data(4);
  const auto read = host.served->dma_read(iova{0}, data);
  EXPECT_FALSE(host.receive_soon());
  host.served->reply(host.model.owed.at(0), 0);
  EXPECT_EQ(host.receive()->head.what, command::device_reset);
  EXPECT_EQ(host.receive()->head.what, command::dma_read);

  // From now on the client owes the answer, except while it waits for us itself.
  host.send(command::device_reset);
  host.turn();
  host.turn(2, 5s);
  EXPECT_TRUE(host.served->connected());
  host.served->reply(host.model.owed.at(1), 0);
  host.turn(2);
  host.turn(2, 5s);
  EXPECT_EQ(host.served->state(), server_state::idle);
  EXPECT_EQ(host.served->last_end()->what.code, errc::timed_out);
  EXPECT_EQ(host.served->take(*read)->error().code, errc::device_gone);
  EXPECT_EQ(host.served->dma_read(iova{0}, data).error().code, errc::device_gone);
}

TEST_F(ServerDma, TheClientsLimitOfOneTransferIsKept) {
  host.leave();
  host.turn();
  host.connect();
  std::string text = R"({"capabilities":{"max_data_xfer_size":8}})";
  text += '\0';
  host.call(command::version, bytes_of(version_numbers{}) + text_bytes(text));
  bytes data(9);
  EXPECT_EQ(host.served->dma_read(iova{0}, data).error().code, errc::invalid);
  EXPECT_EQ(host.served->dma_write(iova{0}, data).error().code, errc::invalid);
  const auto write = host.served->dma_write(iova{0}, std::span{data}.first(8));
  ASSERT_TRUE(write);
  host.leave();
  host.turn();
  EXPECT_EQ(host.served->take(*write)->error().code, errc::device_gone);
}

}  // namespace
}  // namespace runnel::vfio_user
