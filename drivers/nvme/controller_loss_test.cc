// Goal: when a device is late, gone or reset while requests are in flight, each of them ends once,
// and not before the device can no longer reach its memory. Method: as in controller_test.cc.
#include <gtest/gtest.h>

#include <cerrno>
#include <cstring>
#include <string>
#include <vector>

#include "drivers/nvme/controller.h"
#include "tests/sim/nvme_controller_rig.h"

namespace runnel::nvme {
namespace {

using std::chrono::seconds;

void expect_all_ended(controller_rig& on, std::size_t count, block_status how) {
  on.wait_for(count);
  ASSERT_EQ(on.completions.size(), count);
  std::set<std::uint64_t> tags;
  for (const block_completion& done : on.completions) {
    EXPECT_EQ(done.status, how);
    tags.insert(done.tag);
  }
  EXPECT_EQ(tags.size(), count);
}

TEST(controller_loss, ADeviceThatGoesUnderLoadEndsEverythingInFlight) {
  controller_rig on;
  on.begin_load(100);
  const instant start = on.clock.now();
  on.transport->disconnect();
  ASSERT_TRUE(on.reach(controller_state::failed));
  EXPECT_LE(on.clock.now() - start, seconds{7});
  expect_all_ended(on, 100, block_status::device_gone);
  const auto data = on.memory.allocate(4096, 4096).value();
  const block_request late = on.submit(block_op::write, 0, data, 0);
  EXPECT_EQ(late.state, block_state::done);
  EXPECT_EQ(late.status, block_status::device_gone);
}

TEST(controller_loss, ADeviceOutOfReachIsResetWithMoreAndMoreUntilItAnswers) {
  struct {
    reset_scope enough;
    std::vector<reset_scope> done;
  } const cases[] = {{reset_scope::function, {reset_scope::function}},
                     {reset_scope::bus, {reset_scope::function, reset_scope::bus}}};
  for (const auto& given : cases) {
    controller_rig on{{}, {}, {.resets = true}};
    on.begin_load(10);
    on.device.faults.absent = true;
    on.transport->reached_again_after = given.enough;
    ASSERT_TRUE(on.reach_after_reset(controller_state::ready));
    EXPECT_EQ(on.transport->resets, given.done);
    EXPECT_NE(on.subject->mishap().find(", last because its registers read as ones"),
              std::string::npos)
        << on.subject->mishap();
    expect_all_ended(on, 10, block_status::aborted);
    on.write_and_wait();
  }
}

TEST(controller_loss, WhoIsResetByOthersReadsAsOnesForAWhileAndGoesOn) {
  controller_rig on;
  on.begin_load(10);
  on.device.faults.absent = true;
  on.pass(std::chrono::milliseconds{1500});
  EXPECT_EQ(on.subject->state(), controller_state::ready) << "no word of it is believed";
  EXPECT_TRUE(on.completions.empty());
  on.device.reset();
  on.device.faults.absent = false;
  ASSERT_TRUE(on.reach_after_reset(controller_state::ready));
  EXPECT_EQ(on.subject->events().resets, 1U);
  EXPECT_NE(on.subject->events().reset_reason->hint.find("somebody else"), std::string::npos);
  expect_all_ended(on, 10, block_status::aborted);
  on.write_and_wait();
}

TEST(controller_loss, WhatNoResetReachesIsGivenBackAndGoneWhenItsOwnerHasIt) {
  controller_rig on{{}, {}, {.is_a_kernel = true}};
  on.begin_load(10);
  on.device.faults.absent = true;
  ASSERT_TRUE(on.reach_after_reset(controller_state::failed));
  EXPECT_EQ(on.subject->events().resets, 3U);
  on.pass(seconds{300});
  ASSERT_EQ(on.transport->state(), vfio::transport_state::leaving);
  EXPECT_TRUE(on.completions.empty()) << "it may come to itself, and write";
  on.transport->disconnect();
  expect_all_ended(on, 10, block_status::device_gone);
  EXPECT_EQ(on.subject->advance(on.clock.now()), never);
}

TEST(controller_loss, WhatHasNoOwnerWhoTakesItBackIsGoneWhenNoResetReachesIt) {
  controller_rig on;
  on.begin_load(10);
  on.device.faults.absent = true;
  ASSERT_TRUE(on.reach_after_reset(controller_state::failed));
  expect_all_ended(on, 10, block_status::device_gone);
}

TEST(controller_loss, AResetThatCannotBeDoneNowIsDoneAMomentLater) {
  controller_rig on{{}, {}, {.resets = true}};
  on.begin_load(10);
  on.transport->reset_answers = {{errc::busy}, {errc::os, EAGAIN}, {errc::os, EAGAIN}};
  on.transport->error_reported = true;
  ASSERT_TRUE(on.reach_after_reset(controller_state::ready));
  EXPECT_EQ(on.subject->events().resets, 1U);
  EXPECT_EQ(on.transport->resets, std::vector{reset_scope::function});
  expect_all_ended(on, 10, block_status::aborted);
}

TEST(controller_loss, AFunctionThatCannotBeResetIsMendedWithoutOrWithItsBus) {
  struct {
    error answer;
    std::vector<reset_scope> done;
  } const cases[] = {{{errc::unsupported}, {}}, {{errc::os, EIO}, {reset_scope::function}}};
  for (const auto& given : cases) {
    controller_rig on{{}, {}, {.resets = true}};
    on.begin_load(10);
    on.transport->reset_answers = {given.answer};
    on.transport->error_reported = true;
    ASSERT_TRUE(on.reach_after_reset(controller_state::ready));
    EXPECT_EQ(on.transport->resets, given.done);
    expect_all_ended(on, 10, block_status::aborted);
  }
}

TEST(controller_loss, ABusThatMayNotBeResetSaysWhoIsInTheWay) {
  controller_rig on{{}, {}, {.resets = true}};
  on.begin_load(1);
  on.device.faults.absent = true;
  on.transport->reset_answers = {{}, {errc::no_memory}};
  ASSERT_TRUE(on.reach_after_reset(controller_state::failed));
  EXPECT_EQ(on.subject->reason().operation, "reset");
  EXPECT_EQ(on.subject->reason().hint, "another is not ours");
}

TEST(controller_loss, ADeviceThatIsLateKeepsWhatIsInFlightUntilItIsDisabledOrGone) {
  for (const bool comes_back : {true, false}) {
    SCOPED_TRACE(comes_back);
    controller_rig on;
    ASSERT_TRUE(on.reach(controller_state::ready));
    on.queues.push_back(on.subject->make_queue(8).value());
    on.device.faults.hold_io = true;
    const auto data = on.memory.allocate(4096, 4096).value();
    for (std::uint64_t i = 0; i < 3; ++i) {
      ASSERT_EQ(on.submit(block_op::write, i, data, i).state, block_state::pending);
    }
    on.turn();
    on.transport->options.answers_max = 0;
    ASSERT_TRUE(on.reach(controller_state::failed));
    EXPECT_EQ(on.subject->reason().operation, "read PCI command");
    EXPECT_EQ(on.subject->events().reset_reason->operation, "read PCI command");
    const block_request late = on.submit(block_op::write, 0, data, 9);
    EXPECT_EQ(late.state, block_state::done);
    EXPECT_EQ(late.status, block_status::device_gone);

    on.device.release(0);  // it is alive, and works on
    on.wait_for(1);
    for (int i = 0; i < 30; ++i) {
      on.clock.advance_to(on.clock.now() + seconds{1});
      on.turn();
    }
    ASSERT_EQ(on.completions.size(), 1U) << "it may still reach the others' memory";
    EXPECT_EQ(on.completions[0].status, block_status::success);
    EXPECT_EQ(on.transport->in_flight(), 1U) << "one attempt to disable it at a time";

    comes_back ? on.transport->options.answers_max.reset() : on.transport->disconnect();
    on.wait_for(3);
    ASSERT_EQ(on.completions.size(), 3U);
    EXPECT_EQ(on.completions[1].status, block_status::device_gone);
    EXPECT_EQ(on.completions[2].status, block_status::device_gone);
    EXPECT_EQ(on.subject->reason().operation, "read PCI command");
    EXPECT_EQ(on.subject->advance(on.clock.now()), never);
    on.queues.clear();
    on.subject.reset();
    EXPECT_EQ(on.memory.quarantined_bytes() == 0, comes_back);
  }
}

TEST(controller_loss, OnesAreNeverTakenForARegister) {
  for (std::size_t answered = 0;; ++answered) {
    controller_rig on{{}, {}, {.ones_after = answered}};
    if (on.reach(controller_state::ready)) {
      EXPECT_GT(answered, 10U) << "bring-up reads and writes so many";
      break;
    }
    ASSERT_EQ(on.subject->state(), controller_state::failed) << answered;
    EXPECT_EQ(on.subject->reason().what.code, errc::device_gone) << answered;
  }
}

TEST(controller_loss, WhatIsInFlightAtADeviceThatLeavesEndsWhenItIsGone) {
  controller_rig on;
  ASSERT_TRUE(on.reach(controller_state::ready));
  on.queues.push_back(on.subject->make_queue(16).value());
  on.device.faults.hold_io = true;
  const auto data = on.memory.allocate(4096, 4096).value();
  for (std::uint64_t i = 0; i < 10; ++i) {
    ASSERT_EQ(on.submit(block_op::write, i, data, i).state, block_state::pending);
  }
  on.turn();
  on.transport->leave();
  on.turn();
  ASSERT_EQ(on.subject->state(), controller_state::failed) << "at once";
  EXPECT_EQ(on.subject->mishap(), "leaves");
  const block_request late = on.submit(block_op::write, 0, data, 99);
  EXPECT_EQ(late.state, block_state::done);
  EXPECT_EQ(late.status, block_status::device_gone);
  for (int i = 0; i < 10; ++i) {
    on.clock.advance_to(on.clock.now() + seconds{1});
    on.turn();
  }
  EXPECT_TRUE(on.completions.empty()) << "it may still reach their memory";
  on.transport->disconnect();
  on.wait_for(10);
  ASSERT_EQ(on.completions.size(), 10U);
  for (const block_completion& done : on.completions) {
    EXPECT_EQ(done.status, block_status::device_gone);
  }
  EXPECT_EQ(on.subject->advance(on.clock.now()), never);
}

TEST(controller_loss, AnErrorOfADeviceThatGoesIsNoMatterAnyMore) {
  controller_rig on;
  ASSERT_TRUE(on.reach(controller_state::ready));
  on.transport->error_reported = true;
  on.transport->disconnect();
  on.turn();
  EXPECT_EQ(on.subject->state(), controller_state::failed);
  EXPECT_EQ(on.subject->advance(on.clock.now()), never) << "nothing is left to do";
}

TEST(controller_loss, AnErrorThatTheTransportReportsIsMendedByAResetAFewTimesInARow) {
  controller_rig on{{}, {}, {.resets = true}};
  ASSERT_TRUE(on.reach(controller_state::ready));
  on.queues.push_back(on.subject->make_queue(16).value());
  on.device.faults.hold_io = true;
  const auto data = on.memory.allocate(4096, 4096).value();
  ASSERT_EQ(on.submit(block_op::write, 0, data, 7).state, block_state::pending);
  on.transport->error_reported = true;
  on.turn();
  EXPECT_EQ(on.subject->state(), controller_state::connecting) << "at once";
  ASSERT_TRUE(on.reach(controller_state::ready));
  ASSERT_EQ(on.completions.size(), 1U);
  EXPECT_EQ(on.completions[0].status, block_status::aborted);
  EXPECT_EQ(on.subject->events().resets, 1U);
  EXPECT_EQ(on.transport->resets, std::vector{reset_scope::function}) << "its link was reset";
  EXPECT_NE(on.subject->events().reset_reason->hint.find("AER"), std::string::npos);

  on.device.faults.hold_io = false;
  ASSERT_EQ(on.submit(block_op::write, 0, data, 8).state, block_state::pending);
  on.wait_for(2);
  ASSERT_EQ(on.completions.size(), 2U);
  EXPECT_EQ(on.completions[1].status, block_status::success);

  for (const std::uint32_t resets : {2U, 3U}) {
    on.transport->error_reported = true;
    on.turn();
    EXPECT_EQ(on.subject->events().resets, resets);
  }
  on.transport->error_reported = true;
  on.turn();
  EXPECT_EQ(on.subject->state(), controller_state::failed);
  EXPECT_EQ(on.subject->events().resets, 3U);
}

TEST(controller_loss, AnErrorThatIsReportedWhenAllIsOverChangesNothing) {
  controller_rig on;
  on.transport->error_reported = true;
  ASSERT_TRUE(on.reach(controller_state::ready)) << "bring-up finds out by itself";
  on.subject->shutdown();
  on.transport->error_reported = true;
  ASSERT_TRUE(on.reach(controller_state::closed));
  on.transport->error_reported = true;
  on.turn();
  EXPECT_EQ(on.subject->state(), controller_state::closed);
}

TEST(controller_loss, ALogPageThatIsLateEndsRequestsByAReset) {
  controller_rig on{{}, {.admin_limit = seconds{2}}};
  ASSERT_TRUE(on.reach(controller_state::ready));
  on.queues.push_back(on.subject->make_queue(8).value());
  on.device.faults.hold_io = true;
  const auto data = on.memory.allocate(4096, 4096).value();
  ASSERT_EQ(on.submit(block_op::write, 0, data, 7).state, block_state::pending);
  on.turn();
  on.device.faults.admin_answers_max = 0;
  ASSERT_TRUE(on.subject->read_log(log_page::health_information, 512).has_value());
  while (on.subject->state() == controller_state::ready) {
    on.turn();
  }
  EXPECT_EQ(on.subject->events().reset_reason->operation, "ask");
  EXPECT_EQ(on.subject->take_answer()->error().code, errc::timed_out);
  EXPECT_TRUE(on.completions.empty());
  EXPECT_EQ(on.device.held.size(), 1U);
  on.wait_for(1);
  ASSERT_EQ(on.completions.size(), 1U);
  EXPECT_EQ(on.completions[0].status, block_status::aborted);
  EXPECT_TRUE(on.device.held.empty()) << "it was disabled before";
  ASSERT_TRUE(on.reach(controller_state::failed));
  EXPECT_EQ(on.subject->reason().operation, "identify controller");
}

TEST(controller_loss, ResetAbortsWhatIsInFlightAndWorksAgain) {
  controller_rig on{{}, {.queue_count = 2}};
  EXPECT_FALSE(on.subject->reset().has_value());  // not ready yet
  ASSERT_TRUE(on.reach(controller_state::ready));
  on.queues.push_back(on.subject->make_queue(16).value());
  const auto data = on.memory.allocate(4096, 4096).value();
  for (int round = 0; round < 3; ++round) {
    on.completions.clear();
    on.device.faults.hold_io = true;
    for (std::uint64_t i = 0; i < 10; ++i) {
      ASSERT_EQ(on.submit(block_op::write, i, data, i).state, block_state::pending);
    }
    ASSERT_TRUE(on.subject->reset().has_value());
    EXPECT_EQ(on.subject->state(), controller_state::connecting);
    ASSERT_TRUE(on.reach(controller_state::ready));
    ASSERT_EQ(on.completions.size(), 10U);
    EXPECT_EQ(on.completions[0].status, block_status::aborted);

    on.device.faults.hold_io = false;
    on.completions.clear();
    for (std::uint64_t i = 0; i < 30; ++i) {
      ASSERT_EQ(on.submit(block_op::write, i, data, i).state, block_state::pending);
      on.wait_for(i + 1);
      ASSERT_EQ(on.completions.size(), i + 1);
      EXPECT_EQ(on.completions[i].status, block_status::success);
    }
  }
}

TEST(controller_loss, WhatQueuesWereMadeFromMayNotChangeInAReset) {
  struct {
    const char* what;
    void (*change)(sim::nvme_device_options& device);
    errc code;
    const char* operation;
  } const cases[] = {
      {"doorbells further apart", [](auto& device) { device.doorbell_shift = 4; }, errc::protocol,
       "read capabilities again"},
      {"longer queues", [](auto& device) { device.queue_entries = 2048; }, errc::protocol,
       "read capabilities again"},
      {"larger transfers", [](auto& device) { device.mdts = 8; }, errc::protocol,
       "identify controller"},
      {"a volatile cache", [](auto& device) { device.volatile_cache = true; }, errc::protocol,
       "identify controller"},
      {"its namespace is not there", [](auto& device) { device.namespaces = {3}; }, errc::not_found,
       "list namespaces"},
      {"larger blocks", [](auto& device) { device.block_shift = 12; }, errc::protocol,
       "identify namespace"},
  };
  for (const auto& given : cases) {
    SCOPED_TRACE(given.what);
    controller_rig on{{.queue_entries = 100, .namespaces = {2, 5}},
                      {.queue_count = 2, .queue_depth = 99}};
    ASSERT_TRUE(on.reach(controller_state::ready));
    on.queues.push_back(on.subject->make_queue(99).value());
    given.change(on.device.options);
    ASSERT_TRUE(on.subject->reset().has_value());
    ASSERT_TRUE(on.reach(controller_state::failed));
    EXPECT_EQ(on.subject->reason().what.code, given.code);
    EXPECT_EQ(on.subject->reason().operation, given.operation);
    EXPECT_FALSE(on.subject->reason().hint.empty());
  }
}

TEST(controller_loss, ANamespaceIsTheSameAfterAResetThoughTheListBeginsWithAnother) {
  controller_rig on{{.namespaces = {2, 5}}};
  ASSERT_TRUE(on.reach(controller_state::ready));
  on.queues.push_back(on.subject->make_queue(8).value());
  on.device.options.namespaces = {1, 2, 5};
  ASSERT_TRUE(on.subject->reset().has_value());
  ASSERT_TRUE(on.reach(controller_state::ready));
  EXPECT_EQ(on.subject->details().nsid, 2U);
}

TEST(controller_loss, AResetWithAQueueThatNobodyPollsFails) {
  controller_rig on;
  ASSERT_TRUE(on.reach(controller_state::ready));
  auto queue = on.subject->make_queue(16).value();
  ASSERT_TRUE(on.subject->reset().has_value());
  ASSERT_TRUE(on.reach(controller_state::failed));
  EXPECT_EQ(on.subject->reason().operation, "stop queues");
  queue.reset();
}

}  // namespace
}  // namespace runnel::nvme
