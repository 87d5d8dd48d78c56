// Goal: a ticket ends exactly once, and an id is not used again before the peer has answered it.
// Method: the table alone, replies and time handed in.
#include "drivers/vfio/operation_table.h"

#include <gtest/gtest.h>

#include <array>
#include <set>
#include <vector>

namespace runnel::vfio {
namespace {

using std::chrono::seconds;

constexpr std::uint16_t any_command = 9;
constexpr instant start_time{};

class OperationTable : public testing::Test {
 protected:
  ticket start(std::uint16_t replies = 1) {
    auto* const op = table.start(any_command, 64, replies);
    EXPECT_NE(op, nullptr);
    return op->id;
  }
  void reply(ticket which, error status = {}, std::span<const std::byte> data = {}) {
    auto* const op = table.waiting_for(operation_table::message_id(which));
    ASSERT_NE(op, nullptr);
    table.reply(*op, status, data);
  }
  void pass_deadline() {
    static_cast<void>(table.apply_deadlines(start_time, seconds{1}));
    static_cast<void>(table.apply_deadlines(start_time + seconds{1}, seconds{1}));
  }

  operation_table table;
};

TEST_F(OperationTable, AResultIsHandedOutOnceTheReplyIsThere) {
  const ticket which = start();
  EXPECT_FALSE(table.take(which).has_value());
  const std::array data{std::byte{0x34}, std::byte{0x12}};
  reply(which, {}, data);
  const auto taken = table.take(which);
  ASSERT_TRUE(taken.has_value());
  EXPECT_EQ(taken->status, error{});
  EXPECT_EQ(taken->value, 0x1234U);
  EXPECT_EQ(taken->data.size(), 2U);
}

TEST_F(OperationTable, RepliesMayComeInAnyOrder) {
  const ticket one = start();
  const ticket two = start();
  reply(two, {errc::os, 5});
  EXPECT_FALSE(table.take(one).has_value());
  EXPECT_EQ(table.take(two)->status, (error{errc::os, 5}));
}

TEST_F(OperationTable, AllPlacesHaveDifferentIdsAndNoMoreThanSixtyFourExist) {
  std::set<std::uint16_t> ids;
  std::vector<ticket> tickets;
  for (std::size_t i = 0; i < operation_table::capacity; ++i) {
    tickets.push_back(start());
    ids.insert(operation_table::message_id(tickets.back()));
  }
  EXPECT_EQ(ids.size(), 64U);
  EXPECT_EQ(table.start(any_command, 64), nullptr);
  reply(tickets[17]);
  EXPECT_EQ(table.start(any_command, 64), nullptr) << "its result was not taken yet";
  EXPECT_TRUE(table.take(tickets[17]).has_value());
  EXPECT_NE(table.start(any_command, 64), nullptr);
}

TEST_F(OperationTable, AnIdOfATakenResultIsUnknown) {
  const ticket which = start();
  reply(which);
  EXPECT_TRUE(table.take(which).has_value());
  EXPECT_EQ(table.waiting_for(operation_table::message_id(which)), nullptr);
  EXPECT_NE(start(), which);
}

TEST_F(OperationTable, ALateReplyIsRecognisedAndItsPlaceIsHeldUntilThen) {
  const ticket late = start();
  pass_deadline();
  EXPECT_EQ(table.take(late)->status.code, errc::timed_out);
  for (std::size_t i = 1; i < operation_table::capacity; ++i) {
    start();
  }
  EXPECT_EQ(table.start(any_command, 64), nullptr);
  reply(late);
  EXPECT_NE(table.start(any_command, 64), nullptr);
}

TEST_F(OperationTable, AReplyToWhatHadThePlaceBeforeIsToNobody) {
  const ticket before = start();
  reply(before);
  EXPECT_TRUE(table.take(before).has_value());
  const ticket now = start();
  EXPECT_EQ(table.waiting_for(operation_table::message_id(before)), nullptr) << "answered twice";
  reply(now);
  EXPECT_TRUE(table.take(now).has_value());
}

TEST_F(OperationTable, AReplyBetweenDeadlineAndTakeDoesNotChangeTheResult) {
  const ticket late = start();
  pass_deadline();
  reply(late);
  EXPECT_EQ(table.take(late)->status.code, errc::timed_out);
}

TEST_F(OperationTable, ADeadlineCountsFromTheFirstLook) {
  const instant looked = start_time + seconds{100};
  const ticket which = start();
  EXPECT_EQ(table.apply_deadlines(looked, seconds{5}), looked + seconds{5});
  EXPECT_EQ(table.apply_deadlines(looked + seconds{4}, seconds{5}), looked + seconds{5});
  EXPECT_FALSE(table.take(which).has_value());
  EXPECT_EQ(table.apply_deadlines(looked + seconds{5}, seconds{5}), never);
  EXPECT_EQ(table.take(which)->status.code, errc::timed_out);
}

TEST_F(OperationTable, SeveralRepliesEndOneOperationAndTheFirstErrorWins) {
  const ticket which = start(3);
  reply(which);
  reply(which, {errc::os, 22});
  EXPECT_FALSE(table.take(which).has_value());
  reply(which, {errc::os, 5});
  EXPECT_EQ(table.take(which)->status, (error{errc::os, 22}));
}

TEST_F(OperationTable, AnAbandonedOperationFreesItsPlaceWithItsReply) {
  const ticket which = start();
  table.abandon(which);
  EXPECT_EQ(table.apply_deadlines(start_time, seconds{1}), never);
  reply(which);
  EXPECT_EQ(table.waiting_for(operation_table::message_id(which)), nullptr);
}

TEST_F(OperationTable, TheEndReachesEveryTicketButKeepsResultsThatWereThere) {
  const ticket finished = start();
  const ticket waiting = start();
  reply(finished);
  table.end_all({errc::device_gone});
  EXPECT_EQ(table.take(finished)->status.code, errc::ok);
  EXPECT_EQ(table.take(waiting)->status.code, errc::device_gone);
  EXPECT_EQ(table.waiting_for(operation_table::message_id(waiting)), nullptr);
}

TEST_F(OperationTable, AWithdrawnOperationLeavesNoTrace) {
  auto* const op = table.start(any_command, 64);
  const auto id = operation_table::message_id(op->id);
  table.withdraw(*op);
  EXPECT_EQ(table.waiting_for(id), nullptr);
  EXPECT_EQ(table.apply_deadlines(start_time, seconds{1}), never);
}

TEST_F(OperationTable, TakingATicketTwiceIsABug) {
  const ticket which = start();
  reply(which);
  static_cast<void>(table.take(which));
  EXPECT_DEATH(static_cast<void>(table.take(which)), "");
}

}  // namespace
}  // namespace runnel::vfio
