// Goal: what a device reports by itself is counted, read up on and asked for again, and a device
// that reports without end costs no more than one that reports a little.
// Method: as in controller_test.cc.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <vector>

#include "drivers/nvme/controller.h"
#include "tests/sim/nvme_controller_rig.h"

namespace runnel::nvme {
namespace {

using std::chrono::seconds;

void pass(controller_rig& on, nanoseconds time) {
  const instant end = on.clock.now() + time;
  while (on.clock.now() < end) {
    on.turn();
  }
}

TEST(events, AreAskedForAsTheDeviceAllows) {
  for (const std::uint8_t aerl : std::to_array<std::uint8_t>({0, 1, 3, 255})) {
    SCOPED_TRACE(aerl);
    controller_rig on{{.aerl = aerl, .oaes = 0x300}};
    ASSERT_TRUE(on.reach(controller_state::ready));
    pass(on, seconds{3});
    EXPECT_EQ(on.device.event_requests.size(), std::min<std::size_t>(aerl + 1U, 4));
    EXPECT_EQ(on.device.refused_event_requests, 0U);
    EXPECT_EQ(on.device.features[0x0b], 0x31fU);
  }
}

TEST(events, EachIsCountedAndItsLogRead) {
  struct {
    const char* what;
    event_type type;
    std::uint8_t information;
    std::uint64_t controller_events::* counter;
    std::vector<log_page> logs;
  } const cases[] = {
      {"an error", event_type::error, 3, &controller_events::errors, {log_page::error_information}},
      {"health",
       event_type::health,
       1,
       &controller_events::health_warnings,
       {log_page::health_information}},
      {"namespaces",
       event_type::notice,
       0,
       &controller_events::namespace_changes,
       {log_page::changed_namespaces}},
      {"firmware",
       event_type::notice,
       1,
       &controller_events::firmware_activations,
       {log_page::firmware_slots}},
      {"another notice", event_type::notice, 2, &controller_events::others, {}},
      {"no kind that we know", static_cast<event_type>(7), 0, &controller_events::others, {}},
  };
  for (const auto& given : cases) {
    SCOPED_TRACE(given.what);
    controller_rig on;
    ASSERT_TRUE(on.reach(controller_state::ready));
    on.device.critical_warning = 4;
    for (std::uint64_t count = 1; count <= 6; ++count) {
      // the page that it names is not what decides
      ASSERT_TRUE(on.device.report(given.type, given.information, log_page::device_self_test));
      pass(on, seconds{2});
      EXPECT_EQ(on.subject->events().*given.counter, count);
      EXPECT_EQ(on.device.logs_read, given.logs);
      on.device.logs_read.clear();
      EXPECT_EQ(on.device.event_requests.size(), 4U) << "asked for again";
    }
    EXPECT_EQ(on.subject->events().critical_warning, given.type == event_type::health ? 4 : 0);
    EXPECT_EQ(on.subject->state(), controller_state::ready);
  }
}

TEST(events, ANamespaceThatWasResizedIsSeen) {
  struct {
    std::uint32_t changed;
    bool seen;
  } const cases[] = {{1, true}, {2, false}, {nsid_all, true}};
  for (const auto& given : cases) {
    SCOPED_TRACE(given.changed);
    controller_rig on;
    ASSERT_TRUE(on.reach(controller_state::ready));
    on.device.options.block_count = 8192;
    on.device.changed_namespaces[0] = given.changed;
    ASSERT_TRUE(on.device.report(event_type::notice, 0, log_page::changed_namespaces));
    pass(on, seconds{2});
    EXPECT_EQ(on.subject->info().block_count, given.seen ? 8192U : 4096U);
    EXPECT_EQ(on.subject->events().resizes, given.seen ? 1U : 0U);
  }
}

TEST(events, ANamespaceThatIsGoneEndsTheController) {
  controller_rig on;
  ASSERT_TRUE(on.reach(controller_state::ready));
  on.device.options.block_count = 0;
  on.device.changed_namespaces[0] = 1;
  ASSERT_TRUE(on.device.report(event_type::notice, 0, log_page::changed_namespaces));
  ASSERT_TRUE(on.reach(controller_state::failed));
  EXPECT_EQ(on.subject->reason().what.code, errc::not_found);
}

TEST(events, AStormIsHeardOfAFewTimesASecond) {
  controller_rig on;
  ASSERT_TRUE(on.reach(controller_state::ready));
  std::size_t turns = 0;
  const instant end = on.clock.now() + seconds{20};
  for (; on.clock.now() < end; ++turns) {
    while (on.device.report(event_type::error, 3, log_page::error_information)) {
    }
    on.turn();
  }
  EXPECT_GT(on.subject->events().errors, 40U);
  EXPECT_LE(on.subject->events().errors, 4U * 22);
  EXPECT_LT(turns, 1000U) << "and not looked at without a pause";
  EXPECT_EQ(on.subject->state(), controller_state::ready);
}

TEST(events, ADeviceThatTakesNoRequestsIsNotAskedForEver) {
  controller_rig on;
  on.device.faults.refuse_event_requests = true;
  ASSERT_TRUE(on.reach(controller_state::ready));
  pass(on, seconds{10});
  const std::size_t refused = on.device.refused_event_requests;
  EXPECT_LE(refused, 10U);  // 4, 3, 2, 1: each refusal is one request fewer
  pass(on, seconds{10});
  EXPECT_EQ(on.device.refused_event_requests, refused);
  EXPECT_EQ(on.subject->events().others, 0U);
}

TEST(events, ALogThatIsRefusedIsDoneWithout) {
  controller_rig on;
  ASSERT_TRUE(on.reach(controller_state::ready));
  on.device.faults.admin_status[admin_opcode::get_log_page] = status_code::invalid_log_page;
  ASSERT_TRUE(on.device.report(event_type::health, 1, log_page::health_information));
  pass(on, seconds{2});
  EXPECT_EQ(on.subject->events().health_warnings, 1U);
  EXPECT_EQ(on.subject->state(), controller_state::ready);
}

TEST(events, AreAskedForAgainAfterAReset) {
  controller_rig on;
  ASSERT_TRUE(on.reach(controller_state::ready));
  ASSERT_TRUE(on.subject->reset().has_value());
  ASSERT_TRUE(on.reach(controller_state::ready));
  pass(on, seconds{2});
  EXPECT_EQ(on.device.event_requests.size(), 4U);
  ASSERT_TRUE(on.device.report(event_type::error, 0, log_page::error_information));
  pass(on, seconds{2});
  EXPECT_EQ(on.subject->events().errors, 1U);
}

}  // namespace
}  // namespace runnel::nvme
