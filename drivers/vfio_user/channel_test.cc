// Goal: messages and descriptors get through any channel whole, in order and without leaks, however
// the bytes are cut; and whoever cannot connect or listen learns why.
// Method: real sockets in a temporary directory, the channel in memory over many seeds, and a
// channel that takes as much as the test says. Descriptors of the process are counted.

#include "drivers/vfio_user/channel.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdlib>
#include <deque>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "drivers/vfio_user/listener.h"
#include "drivers/vfio_user/message_reader.h"
#include "drivers/vfio_user/outbox.h"
#include "drivers/vfio_user/server_testing.h"
#include "drivers/vfio_user/socket_channel.h"

namespace runnel::vfio_user {
namespace {

using testing::bytes;
using testing::bytes_of;
using testing::open_descriptors;
using testing::operator+;

using channels = std::pair<std::unique_ptr<channel>, std::unique_ptr<channel>>;

channels socket_pair() {
  std::array<int, 2> ends{};
  EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends.data()), 0);
  return {make_socket_channel(unique_fd{ends[0]}), make_socket_channel(unique_fd{ends[1]})};
}

/// A directory that goes away with the test.
class Sockets : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = (std::filesystem::temp_directory_path() / "runnel-XXXXXX").string();
    directory_ = ::mkdtemp(name.data());
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }
  [[nodiscard]] std::string path(const char* name) const { return directory_ / name; }

  /// The file of a server that died.
  void leave_stale_socket(const std::string& where) const {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    where.copy(address.sun_path, sizeof(address.sun_path) - 1);
    const unique_fd socket{::socket(AF_UNIX, SOCK_STREAM, 0)};
    ASSERT_EQ(::bind(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  }

 private:
  std::filesystem::path directory_;
};

TEST_F(Sockets, ClientAndServerFindEachOther) {
  auto door = listener::bind(path("a.sock"));
  ASSERT_TRUE(door) << door.error().message();
  EXPECT_EQ(*door->accept(), nullptr);
  auto client = connect_socket(path("a.sock").c_str());
  ASSERT_TRUE(client) << client.error().message();
  auto accepted = door->accept();
  ASSERT_TRUE(accepted);
  ASSERT_NE(*accepted, nullptr);
  const bytes word(5, std::byte{7});
  EXPECT_EQ(*(*client)->send(word, {}), 5U);
  bytes got(16);
  fd_list fds;
  EXPECT_EQ(*(*accepted)->receive(got, fds), 5U);
  EXPECT_EQ(*(*accepted)->receive(got, fds), 0U);
  client->reset();
  EXPECT_EQ((*accepted)->receive(got, fds).error().code, errc::device_gone);
  EXPECT_EQ((*accepted)->send(word, {}).error().code, errc::device_gone);
}

TEST_F(Sockets, ASocketThatIsServedIsNotTakenOver) {
  const auto first = listener::bind(path("a.sock"));
  ASSERT_TRUE(first);
  const auto second = listener::bind(path("a.sock"));
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().what.code, errc::busy);
  EXPECT_EQ(second.error().object, "vfio-user:" + path("a.sock"));
  EXPECT_NE(second.error().message().find("already served by process " + std::to_string(getpid())),
            std::string::npos)
      << second.error().message();
  EXPECT_TRUE(connect_socket(path("a.sock").c_str()));
}

TEST_F(Sockets, TheSocketOfADeadServerIsReplaced) {
  leave_stale_socket(path("a.sock"));
  EXPECT_FALSE(connect_socket(path("a.sock").c_str()));
  const auto door = listener::bind(path("a.sock"));
  ASSERT_TRUE(door) << door.error().message();
  EXPECT_TRUE(connect_socket(path("a.sock").c_str()));
}

TEST_F(Sockets, OtherFilesAreLeftAlone) {
  std::ofstream{path("file")} << "precious";
  const auto door = listener::bind(path("file"));
  ASSERT_FALSE(door);
  EXPECT_NE(door.error().message().find("not a socket"), std::string::npos);
  EXPECT_TRUE(std::filesystem::exists(path("file")));
}

TEST_F(Sockets, TheFileGoesWithTheListenerUnlessItIsAnothers) {
  {
    const auto door = listener::bind(path("a.sock"));
    ASSERT_TRUE(door);
  }
  EXPECT_FALSE(std::filesystem::exists(path("a.sock")));
  {
    const auto door = listener::bind(path("a.sock"));
    ASSERT_TRUE(door);
    std::filesystem::rename(path("a.sock"), path("moved"));
    leave_stale_socket(path("a.sock"));
  }
  EXPECT_TRUE(std::filesystem::exists(path("a.sock")));
}

TEST_F(Sockets, WhoeverCannotConnectLearnsWhatToDo) {
  std::ofstream{path("file")} << "text";
  leave_stale_socket(path("stale"));
  sockaddr_un datagram{};
  datagram.sun_family = AF_UNIX;
  path("datagram").copy(datagram.sun_path, sizeof(datagram.sun_path) - 1);
  const unique_fd other{::socket(AF_UNIX, SOCK_DGRAM, 0)};
  ASSERT_EQ(::bind(other.get(), reinterpret_cast<sockaddr*>(&datagram), sizeof(datagram)), 0);
  const std::vector<std::pair<std::string, std::string>> rows{
      {path("absent"), "start `runnel target --listen vfio-user:" + path("absent")},
      {path("file"), "not a socket"},
      {path("stale"), "nobody listens"},
      {path("datagram"), "another kind"},
      {path(std::string(120, 'x').c_str()), "1 to 107 bytes"},
      {"", "1 to 107 bytes"},
  };
  for (const auto& [where, hint] : rows) {
    const auto client = connect_socket(where.c_str());
    ASSERT_FALSE(client) << where;
    EXPECT_EQ(client.error().object, "vfio-user:" + where);
    EXPECT_NE(client.error().message().find(hint), std::string::npos) << client.error().message();
  }
}

TEST_F(Sockets, AListenerNeedsAPlace) {
  EXPECT_FALSE(listener::bind(path("none/a.sock")));
  EXPECT_FALSE(listener::bind(path(std::string(120, 'x').c_str())));
}

TEST(SocketChannel, MoreDescriptorsThanAMessageMayCarryBreakTheProtocolAndLeakNothing) {
  const std::size_t before = open_descriptors();
  {
    std::array<int, 2> ends{};
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends.data()), 0);
    const unique_fd sender{ends[0]};
    const auto receiver = make_socket_channel(unique_fd{ends[1]});
    constexpr std::size_t count = message_fds_max + 4;
    alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(count * sizeof(int))> control{};
    char one = 1;
    iovec part{.iov_base = &one, .iov_len = 1};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    cmsghdr* const item = CMSG_FIRSTHDR(&message);
    item->cmsg_level = SOL_SOCKET;
    item->cmsg_type = SCM_RIGHTS;
    item->cmsg_len = CMSG_LEN(count * sizeof(int));
    std::array<int, count> fds{};
    fds.fill(sender.get());
    std::memcpy(CMSG_DATA(item), fds.data(), sizeof(fds));
    ASSERT_EQ(::sendmsg(sender.get(), &message, 0), 1);
    bytes into(4);
    fd_list got;
    EXPECT_EQ(receiver->receive(into, got).error().code, errc::protocol);
  }
  EXPECT_EQ(open_descriptors(), before);
}

TEST(SocketChannel, HangingUpEndsTheStreamAndWakesNobodyAnyMore) {
  auto [one, other] = socket_pair();
  const unique_fd waiter{::epoll_create1(EPOLL_CLOEXEC)};
  const int fd = one->event_fd();
  epoll_event interest{};
  interest.events = EPOLLIN;
  ASSERT_EQ(::epoll_ctl(waiter.get(), EPOLL_CTL_ADD, fd, &interest), 0);
  one->hang_up();
  bytes got(1);
  fd_list fds;
  EXPECT_EQ(other->receive(got, fds).error().code, errc::device_gone);
  EXPECT_EQ(::epoll_wait(waiter.get(), &interest, 1, 0), 0);
  // The number is still ours: forgetting it late cannot hit another descriptor's watch.
  EXPECT_EQ(one->event_fd(), fd);
  EXPECT_NE(::fcntl(fd, F_GETFD), -1);
  pollfd readable{.fd = fd, .events = POLLIN, .revents = 0};
  EXPECT_EQ(::poll(&readable, 1, 0), 0);
}

TEST(MemoryChannel, HangingUpEndsTheStream) {
  auto [one, other] = memory_channel_pair(3);
  one->hang_up();
  bytes got(1);
  fd_list fds;
  EXPECT_EQ(other->receive(got, fds).error().code, errc::device_gone);
}

TEST(MemoryChannel, BytesArriveInOrderAndDescriptorsWithTheirFirstByte) {
  for (std::uint64_t seed = 1; seed <= 50; ++seed) {
    SCOPED_TRACE(seed);
    const std::size_t before = open_descriptors();
    {
      auto [one, other] = memory_channel_pair(seed);
      bytes sent(200'000);
      for (std::size_t i = 0; i < sent.size(); ++i) {
        sent[i] = static_cast<std::byte>(i * 7 >> 3U);
      }
      constexpr std::size_t fd_at = 1000;
      const unique_fd memory = testing::make_memory(4096);
      const int fd = memory.get();
      bytes got;
      fd_list fds;
      std::size_t fd_came_with = 0;
      std::size_t offset = 0;
      while (got.size() < sent.size()) {
        // Up to fd_at alone, so that the next byte is the first of a send.
        const std::size_t end = offset < fd_at ? fd_at : sent.size();
        const auto with = offset == fd_at ? std::span<const int>{&fd, 1} : std::span<const int>{};
        offset += *one->send(std::span{sent}.subspan(offset, end - offset), with);
        bytes piece(4096);
        const std::size_t count = *other->receive(piece, fds);
        got.insert(got.end(), piece.begin(), piece.begin() + static_cast<std::ptrdiff_t>(count));
        if (fds.count == 1 && fd_came_with == 0) {
          fd_came_with = got.size();
          EXPECT_GT(got.size(), fd_at);
          EXPECT_LE(got.size() - count, fd_at);
        }
      }
      EXPECT_EQ(got, sent);
      EXPECT_EQ(fds.count, 1U);
    }
    EXPECT_EQ(open_descriptors(), before);
  }
}

TEST(MemoryChannel, TheSameSeedCutsTheSameWay) {
  const auto cuts = [](std::uint64_t seed) {
    auto [one, other] = memory_channel_pair(seed);
    std::vector<std::size_t> sizes;
    bytes data(1000);
    for (int i = 0; i < 40; ++i) {
      sizes.push_back(*one->send(data, {}));
      fd_list fds;
      sizes.push_back(*other->receive(data, fds));
    }
    return sizes;
  };
  EXPECT_EQ(cuts(5), cuts(5));
  EXPECT_NE(cuts(5), cuts(6));
}

TEST(MemoryChannel, WhatWasSentBeforeLeavingIsStillRead) {
  auto [one, other] = memory_channel_pair(3);
  const bytes word(10, std::byte{1});
  std::size_t sent = 0;
  while (sent < word.size()) {
    sent += *one->send(std::span{word}.subspan(sent), {});
  }
  one.reset();
  std::size_t got = 0;
  bytes into(10);
  fd_list fds;
  while (got < word.size()) {
    const auto count = other->receive(into, fds);
    ASSERT_TRUE(count);
    got += *count;
  }
  EXPECT_EQ(other->receive(into, fds).error().code, errc::device_gone);
  EXPECT_EQ(other->send(word, {}).error().code, errc::device_gone);
}

TEST(MemoryChannel, IsBounded) {
  auto [one, other] = memory_channel_pair(9);
  const bytes chunk(4096);
  std::size_t total = 0;
  for (int i = 0; i < 1000; ++i) {
    total += *one->send(chunk, {});
  }
  EXPECT_GT(total, 4096U);
  EXPECT_LT(total, 1 * mib);
}

/// Takes what the test allows and writes down each call.
class scripted_channel final : public channel {
 public:
  struct sending {
    std::size_t offered;
    std::size_t fds;
  };
  result<std::size_t> send(std::span<const std::byte> data,
                           std::span<const int> fds) noexcept override {
    calls.push_back({.offered = data.size(), .fds = fds.size()});
    const std::size_t room = takes.empty() ? data.size() : takes.front();
    if (!takes.empty()) {
      takes.pop_front();
    }
    const std::size_t count = std::min(room, data.size());
    stream.insert(stream.end(), data.begin(), data.begin() + static_cast<std::ptrdiff_t>(count));
    return count;
  }
  result<std::size_t> receive(std::span<std::byte>, fd_list&) noexcept override {
    return std::size_t{0};
  }
  void hang_up() noexcept override {}
  int event_fd() const noexcept override { return -1; }

  std::deque<std::size_t> takes;
  std::vector<sending> calls;
  bytes stream;
};

TEST(Outbox, OffersEachMessageWholeAndItsDescriptorsOnce) {
  outbox out{message_bytes_max};
  scripted_channel to;
  const unique_fd memory = testing::make_memory(4096);
  const int fd = memory.get();
  const bytes data(100, std::byte{9});
  ASSERT_TRUE(out.push(command_header(1, command::version, 0)));
  ASSERT_TRUE(out.push(command_header(2, command::dma_map, 100), data, {}, {&fd, 1}));
  ASSERT_TRUE(out.push(command_header(3, command::version, 0)));
  to.takes = {16, 0};  // the second is not taken at all at first
  ASSERT_TRUE(out.flush(to));
  EXPECT_FALSE(out.empty());
  to.takes = {10, 50, 0};  // then in pieces
  ASSERT_TRUE(out.flush(to));
  ASSERT_TRUE(out.flush(to));
  EXPECT_TRUE(out.empty());
  const std::vector<std::pair<std::size_t, std::size_t>> expected{
      {16, 0}, {116, 1}, {116, 1}, {106, 0}, {56, 0}, {56, 0}, {16, 0}};
  ASSERT_EQ(to.calls.size(), expected.size());
  for (std::size_t i = 0; i < expected.size(); ++i) {
    EXPECT_EQ(to.calls[i].offered, expected[i].first) << i;
    EXPECT_EQ(to.calls[i].fds, expected[i].second) << i;
  }
}

TEST(Outbox, RefusesWhatHasNoRoomAndRecovers) {
  outbox out{message_bytes_max};
  scripted_channel to;
  const bytes data(data_bytes_max);
  const header large = command_header(1, command::region_write, data.size());
  ASSERT_TRUE(out.push(large, {}, data));
  EXPECT_EQ(out.push(large, {}, data).error().code, errc::queue_full);
  EXPECT_TRUE(out.reserve(data.size()).empty());
  to.takes = {1000, 0};
  ASSERT_TRUE(out.flush(to));
  ASSERT_TRUE(out.push(command_header(2, command::region_write, 900), {}, bytes(900)));  // moves up
  ASSERT_TRUE(out.flush(to));
  EXPECT_TRUE(out.empty());
  EXPECT_EQ(to.stream.size(), large.size + 16 + 900);
  EXPECT_EQ(out.bytes_sent(), to.stream.size());
  ASSERT_TRUE(out.push(large, {}, data));
}

TEST(Outbox, AReservedPayloadMayTurnOutShorter) {
  outbox out{message_bytes_max};
  scripted_channel to;
  const auto room = out.reserve(4096);
  ASSERT_EQ(room.size(), 4096U);
  room[0] = std::byte{42};
  ASSERT_TRUE(out.commit(command_header(5, command::device_feature, 8)));
  ASSERT_TRUE(out.flush(to));
  EXPECT_EQ(to.stream.size(), 24U);
  EXPECT_EQ(to.stream[16], std::byte{42});
}

TEST(Outbox, WhatWasNotBegunIsTakenBackAndTheRestOfWhatWasFollows) {
  outbox out{message_bytes_max};
  scripted_channel to;
  const unique_fd memory = testing::make_memory(4096);
  const int fd = memory.get();
  const bytes data(100);
  ASSERT_TRUE(out.push(command_header(1, command::dma_map, 100), data, {}, {&fd, 1}));
  ASSERT_TRUE(out.push(command_header(2, command::dma_map, 100), data, {}, {&fd, 1}));
  to.takes = {10, 0};
  ASSERT_TRUE(out.flush(to));
  out.take_back();
  out.take_back();
  EXPECT_FALSE(out.empty());
  ASSERT_TRUE(out.push(command_header(3, command::version, 0)));
  to.takes = {106, 0};
  ASSERT_TRUE(out.flush(to));
  out.take_back();
  EXPECT_TRUE(out.empty());
  EXPECT_EQ(to.stream, bytes_of(command_header(1, command::dma_map, 100)) + data);
}

TEST(Outbox, DescriptorsThatWereNeverSentAreClosed) {
  const std::size_t before = open_descriptors();
  {
    outbox out{message_bytes_max};
    const unique_fd memory = testing::make_memory(4096);
    const int fd = memory.get();
    ASSERT_TRUE(out.push(command_header(1, command::dma_map, 0), {}, {}, {&fd, 1}));
  }
  EXPECT_EQ(open_descriptors(), before);
}

TEST(Messages, SurviveAnyCutOnBothKindsOfChannel) {
  for (std::uint64_t seed = 0; seed <= 30; ++seed) {
    SCOPED_TRACE(seed);
    const std::size_t before = open_descriptors();
    {
      auto [one, other] = seed == 0 ? socket_pair() : memory_channel_pair(seed);
      outbox out{4 * message_bytes_max};
      message_reader in;
      const unique_fd memory = testing::make_memory(4096);
      const std::array fds{memory.get(), memory.get(), memory.get()};
      constexpr std::array<std::size_t, 6> sizes{0, 1, 16, 4096, 70'000, data_bytes_max};
      for (std::uint16_t id = 0; id < std::uint16_t{sizes.size()}; ++id) {
        const bytes data(sizes[id], static_cast<std::byte>(id));
        ASSERT_TRUE(out.push(command_header(id, command::region_write, data.size()), {}, data,
                             std::span{fds}.first(id % 3)));
      }
      std::uint16_t next = 0;
      for (int turn = 0; turn < 100'000 && next < sizes.size(); ++turn) {
        ASSERT_TRUE(out.flush(*one));
        const auto whole = in.receive(*other);
        ASSERT_TRUE(whole);
        if (*whole) {
          EXPECT_EQ(in.head().id, next);
          EXPECT_EQ(in.payload().size(), sizes[next]);
          EXPECT_TRUE(std::ranges::all_of(
              in.payload(), [&](std::byte b) { return b == static_cast<std::byte>(next); }));
          EXPECT_EQ(in.fds().count, next % 3U);
          EXPECT_FALSE(in.halfway());
          ++next;
        }
      }
      EXPECT_EQ(next, sizes.size());
    }
    EXPECT_EQ(open_descriptors(), before);
  }
}

TEST(MessageReader, KnowsThatAMessageIsHalfHere) {
  auto [one, other] = socket_pair();
  message_reader in;
  EXPECT_FALSE(*in.receive(*other));
  EXPECT_FALSE(in.halfway());
  const bytes wire = bytes_of(command_header(1, command::version, 4)) + bytes(4);
  ASSERT_TRUE(one->send(std::span{wire}.first(3), {}));
  EXPECT_FALSE(*in.receive(*other));
  EXPECT_TRUE(in.halfway());
  ASSERT_TRUE(one->send(std::span{wire}.subspan(3), {}));
  EXPECT_TRUE(*in.receive(*other));
  EXPECT_FALSE(in.halfway());
}

TEST(MessageReader, AHeaderWithoutSenseEndsTheStream) {
  auto [one, other] = socket_pair();
  message_reader in;
  ASSERT_TRUE(one->send(wire_bytes(header{.size = 3}), {}));
  EXPECT_EQ(in.receive(*other).error().code, errc::protocol);
}

}  // namespace
}  // namespace runnel::vfio_user
