// Goal: what a user asks a running controller is answered once, with copies out of the device's
// reach, and what the device refuses, forgets or changes ends as documented.
// Method: as in controller_test.cc.
#include <gtest/gtest.h>

#include <cstring>
#include <optional>

#include "drivers/nvme/controller.h"
#include "tests/sim/nvme_controller_rig.h"

namespace runnel::nvme {
namespace {

using std::chrono::minutes;
using std::chrono::seconds;

/// Runs until there is an answer.
result<admin_answer> answer_of(controller_rig& on) {
  for (int i = 0; i < 10; ++i) {
    if (const auto answer = on.subject->take_answer()) {
      return *answer;
    }
    on.turn();
  }
  return fail(errc::timed_out, 1);
}

TEST(question, LogPagesAreReadOneAtATime) {
  controller_rig on;
  EXPECT_EQ(on.subject->read_log(log_page::health_information, 512).error().code,
            errc::device_gone);
  ASSERT_TRUE(on.reach(controller_state::ready));
  EXPECT_EQ(on.subject->read_log(log_page::health_information, 5).error().code, errc::invalid);
  EXPECT_EQ(on.subject->read_log(log_page::health_information, 8192).error().code, errc::invalid);
  ASSERT_TRUE(on.subject->read_log(log_page::health_information, 512).has_value());
  EXPECT_EQ(on.subject->read_log(log_page::health_information, 512).error().code, errc::busy);
  EXPECT_FALSE(on.subject->take_answer().has_value());
  const auto log = answer_of(on);
  ASSERT_TRUE(log.has_value());
  ASSERT_EQ(log->data.size(), 512U);
  std::memset(on.subject->details().admin_data.data(), 0xff, 4096);  // the device's to write
  EXPECT_EQ(log->data[offsetof(health_log, available_spare)], std::byte{100});

  ASSERT_TRUE(on.subject->read_log(log_page::device_self_test, 4096).has_value());
  const auto refused = answer_of(on);
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code, errc::bad_status);
  EXPECT_EQ(on.subject->state(), controller_state::ready);
}

TEST(question, AFeatureThatWasSetReadsSo) {
  controller_rig on;
  ASSERT_TRUE(on.reach(controller_state::ready));
  ASSERT_TRUE(on.subject->set_feature(feature::temperature_threshold, 0x1234).has_value());
  ASSERT_TRUE(answer_of(on).has_value());
  ASSERT_TRUE(
      on.subject->get_feature(feature::temperature_threshold, feature_select::current).has_value());
  EXPECT_EQ(answer_of(on).value().value, 0x1234U);
  ASSERT_TRUE(
      on.subject->get_feature(feature::temperature_threshold, feature_select::saved).has_value());
  EXPECT_EQ(answer_of(on).value().value, 0U) << "it asked for another value";
  EXPECT_EQ(on.subject->set_feature(feature::number_of_queues, 1).error().code, errc::invalid);
}

TEST(question, FormattingNamesTheFormatAndLooksAtTheNamespaceAgain) {
  controller_rig on;
  ASSERT_TRUE(on.reach(controller_state::ready));
  EXPECT_EQ(on.subject->format(1, erase::none).error().code, errc::invalid) << "there is one only";
  std::ranges::fill(on.device.disk, std::byte{7});
  on.device.options.block_count = 2048;
  ASSERT_TRUE(on.subject->format(0, erase::user_data).has_value());
  ASSERT_TRUE(answer_of(on).has_value());
  ASSERT_TRUE(on.device.format.has_value());
  EXPECT_EQ(on.device.format->nsid, 1U);
  EXPECT_EQ(on.device.format->cdw10, 1U << 9U);
  on.turn();
  on.turn();
  EXPECT_EQ(on.subject->info().block_count, 2048U);
  EXPECT_EQ(on.subject->events().resizes, 1U);
  EXPECT_EQ(on.subject->state(), controller_state::ready);
}

TEST(question, BlocksOfAnotherSizeMeanAnotherDisk) {
  controller_rig on;
  ASSERT_TRUE(on.reach(controller_state::ready));
  on.device.options.block_shift = 12;
  ASSERT_TRUE(on.subject->format(0, erase::none).has_value());
  ASSERT_TRUE(on.reach(controller_state::failed));
  EXPECT_EQ(on.subject->reason().operation, "identify namespace again");
  EXPECT_EQ(on.subject->reason().what.code, errc::protocol);
}

TEST(question, FormattingHasItsOwnTime) {
  controller_rig on;
  ASSERT_TRUE(on.reach(controller_state::ready));
  on.device.faults.unanswered = {admin_opcode::format_nvm};
  ASSERT_TRUE(on.subject->format(0, erase::none).has_value());
  const instant start = on.clock.now();
  while (on.subject->events().resets == 0 && on.clock.now() - start < minutes{11}) {
    on.clock.advance_to(on.clock.now() + seconds{1});
    on.turn();
  }
  EXPECT_GE(on.clock.now() - start, minutes{10});
  EXPECT_EQ(on.subject->events().resets, 1U);
  const auto answer = on.subject->take_answer();
  ASSERT_TRUE(answer.has_value());
  EXPECT_EQ(answer->error().code, errc::timed_out);
}

TEST(question, ANamespaceMayHaveAnotherSizeAfterAReset) {
  for (const std::uint64_t blocks : {2048U, 0U}) {
    controller_rig on;
    ASSERT_TRUE(on.reach(controller_state::ready));
    on.device.options.block_count = blocks;
    ASSERT_TRUE(on.subject->reset().has_value());
    ASSERT_TRUE(on.reach(blocks != 0 ? controller_state::ready : controller_state::failed));
    if (blocks != 0) {
      EXPECT_EQ(on.subject->info().block_count, blocks);
      EXPECT_EQ(on.subject->events().resizes, 1U);
    } else {
      EXPECT_NE(on.subject->reason().hint.find("not there any more"), std::string::npos);
    }
  }
}

}  // namespace
}  // namespace runnel::nvme
