// Goal: memory reached by messages is read and written exactly as asked, or not at all; a reply
// that does not fit the question breaks the connection, never our buffer.
// Method: the state machine alone; its command is taken out of an outbox, replies are made by hand.

#include "drivers/vfio_user/remote_dma.h"

#include <gtest/gtest.h>

#include <array>
#include <cerrno>
#include <vector>

#include "drivers/vfio_user/message_reader.h"
#include "drivers/vfio_user/server_testing.h"

namespace runnel::vfio_user {
namespace {

using testing::bytes;
using testing::bytes_of;
using testing::operator+;
using namespace std::chrono_literals;

class RemoteDma : public ::testing::Test {
 protected:
  /// The command that went out.
  header command_sent() {
    auto [one, other] = memory_channel_pair(1);
    message_reader reader;
    for (int turn = 0; turn < 1000; ++turn) {
      EXPECT_TRUE(out.flush(*one));
      if (*reader.receive(*other)) {
        payload.assign(reader.payload().begin(), reader.payload().end());
        return reader.head();
      }
    }
    return {};
  }

  remote_dma dma;
  outbox out{message_bytes_max};
  bytes payload;
};

TEST_F(RemoteDma, ReadsIntoTheCallersBytes) {
  bytes data(8);
  const auto read = dma.start_read(iova{0x1234}, data);
  ASSERT_TRUE(read);
  EXPECT_EQ(dma.deadline(), never);
  dma.send(out, instant{5s});
  EXPECT_EQ(dma.deadline(), instant{5s});
  const header head = command_sent();
  EXPECT_EQ(head.what, command::dma_read);
  EXPECT_EQ(payload, bytes_of(dma_access_payload{.iova = 0x1234, .count = 8}));
  EXPECT_FALSE(dma.take(*read));
  const bytes found(8, std::byte{3});
  ASSERT_TRUE(dma.receive(reply_header(head, 24), payload + found));
  EXPECT_EQ(dma.deadline(), never);
  const auto status = dma.take(*read);
  ASSERT_TRUE(status);
  EXPECT_TRUE(status->has_value());
  EXPECT_EQ(data, found);
  EXPECT_FALSE(dma.take(*read));  // once
}

TEST_F(RemoteDma, WritesTheCallersBytes) {
  const bytes data(4, std::byte{9});
  const auto write = dma.start_write(iova{0x40}, data);
  ASSERT_TRUE(write);
  dma.send(out, never);
  const header head = command_sent();
  const bytes range = bytes_of(dma_access_payload{.iova = 0x40, .count = 4});
  EXPECT_EQ(payload, range + data);
  ASSERT_TRUE(dma.receive(reply_header(head, range.size()), range));
  EXPECT_TRUE(dma.take(*write)->has_value());
}

TEST_F(RemoteDma, TheClientsErrnoIsHandedOn) {
  bytes data(8);
  const auto read = dma.start_read(iova{0}, data);
  dma.send(out, never);
  ASSERT_TRUE(dma.receive(error_header(command_sent(), ENODEV), {}));
  EXPECT_EQ(dma.take(*read)->error(), (error{errc::os, ENODEV}));
}

TEST_F(RemoteDma, OneAtATime) {
  bytes data(8);
  const auto first = dma.start_read(iova{0}, data);
  EXPECT_EQ(dma.start_write(iova{0}, data).error().code, errc::queue_full);
  dma.fail_pending({errc::device_gone, 0});
  EXPECT_EQ(dma.start_read(iova{0}, data).error().code, errc::queue_full);  // not taken yet
  EXPECT_EQ(dma.take(*first)->error().code, errc::device_gone);
  EXPECT_TRUE(dma.start_read(iova{0}, data));
}

TEST_F(RemoteDma, RepliesThatDoNotFitBreakTheProtocol) {
  EXPECT_FALSE(dma.receive(header{.what = command::dma_read, .size = 16, .flags = 1}, {}));
  EXPECT_FALSE(dma.start_read(iova{0}, {}));
  bytes data(8, std::byte{1});
  ASSERT_TRUE(dma.start_read(iova{0x1000}, data));
  dma.send(out, never);
  const header asked = command_sent();
  const auto payload_of = [](std::uint64_t where, std::uint64_t count, std::size_t data_bytes) {
    return bytes_of(dma_access_payload{.iova = where, .count = count}) + bytes(data_bytes);
  };
  header other_id = reply_header(asked, 24);
  ++other_id.id;
  header other_command = reply_header(asked, 24);
  other_command.what = command::dma_write;
  const header head = reply_header(asked, 24);
  EXPECT_FALSE(dma.receive(other_id, payload_of(0x1000, 8, 8)));
  EXPECT_FALSE(dma.receive(other_command, payload_of(0x1000, 8, 8)));
  EXPECT_FALSE(dma.receive(head, payload_of(0x1000, 8, 7)));
  EXPECT_FALSE(dma.receive(head, payload_of(0x1000, 8, 9)));
  EXPECT_FALSE(dma.receive(head, payload_of(0x1000, 9, 9)));
  EXPECT_FALSE(dma.receive(head, payload_of(0x1000, 9, 8)));
  EXPECT_FALSE(dma.receive(head, payload_of(0x1001, 8, 8)));
  EXPECT_FALSE(dma.receive(head, bytes(15)));
  EXPECT_EQ(data, bytes(8, std::byte{1}));
  EXPECT_TRUE(dma.receive(head, payload_of(0x1000, 8, 8)));
}

}  // namespace
}  // namespace runnel::vfio_user
