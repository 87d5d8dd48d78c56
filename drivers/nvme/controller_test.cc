// Goal: a controller comes up, works, resets and goes down without ever waiting, and every way in
// which the device can be late, wrong or gone ends in time with a failure that names it.
// Method: the driver against the simulated device on a virtual clock; faults are placed at every
// operation in turn.
#include "drivers/nvme/controller.h"

#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "tests/sim/nvme_controller_rig.h"

namespace runnel::nvme {
namespace {

using std::chrono::seconds;

TEST(controller, ComesUpAndTellsWhatTheDeviceIs) {
  controller_rig on{
      {.block_shift = 12, .block_count = 1000, .volatile_cache = true, .namespaces = {2, 5}},
      {.nsid = 5, .queue_count = 3, .queue_depth = 64}};
  ASSERT_TRUE(on.reach(controller_state::ready));
  const block_info& info = on.subject->info();
  EXPECT_EQ(info.address, "sim:0");
  EXPECT_EQ(info.block_bytes, 4096U);
  EXPECT_EQ(info.block_count, 1000U);
  EXPECT_EQ(info.queue_depth_max, 64U);
  EXPECT_EQ(info.queue_count_max, 3U);
  EXPECT_EQ(info.transfer_bytes_max, 1U << 20U);
  EXPECT_TRUE(info.volatile_cache);
  EXPECT_TRUE(info.device_reads_memory);
  const controller_data& details = on.subject->details();
  EXPECT_EQ(text_of(details.controller_identity.mn), "Simulated device");
  EXPECT_EQ(details.active_namespaces, (std::vector<std::uint32_t>{2, 5}));
  EXPECT_EQ(details.nsid, 5U);
  EXPECT_EQ(details.version, version(2, 0));
  ASSERT_TRUE(details.names.uuid.has_value());
  EXPECT_EQ(details.names.uuid->front(), 0x42);
  EXPECT_EQ(on.transport->pci_command, pci_command_memory | pci_command_bus_master);
  EXPECT_EQ(on.device.queue_count(), 4U);
}

TEST(controller, BytesGoOutAndComeBack) {
  for (const std::uint32_t doorbell_shift : {0U, 4U}) {
    for (const bool map_doorbells : {true, false}) {
      SCOPED_TRACE(testing::Message() << doorbell_shift << map_doorbells);
      controller_rig on{{.doorbell_shift = doorbell_shift, .ready_modes = true},
                        {},
                        {.map_doorbells = map_doorbells}};
      ASSERT_TRUE(on.reach(controller_state::ready));
      on.queues.push_back(on.subject->make_queue(8).value());
      const auto data = on.memory.allocate(1U << 20U, 4096).value();
      for (std::size_t i = 0; i < data.size(); ++i) {
        data[i] = static_cast<std::byte>(i * 31 >> 3U);
      }
      const std::vector<std::byte> written{data.begin(), data.end()};
      EXPECT_EQ(on.submit(block_op::write, 7, data, 1).state, block_state::pending);
      on.wait_for(1);
      std::ranges::fill(data, std::byte{0});
      EXPECT_EQ(on.submit(block_op::read, 7, data, 2).state, block_state::pending);
      on.wait_for(2);
      ASSERT_EQ(on.completions.size(), 2U);
      EXPECT_EQ(on.completions[1].status, block_status::success);
      EXPECT_TRUE(std::ranges::equal(data, written));
      EXPECT_EQ(on.device.overflows, 0U);
    }
  }
}

TEST(controller, EveryStepThatIsNotAnsweredTimesOutUnderItsOwnName) {
  std::vector<std::string> names;
  for (std::size_t answers = 0;; ++answers) {
    controller_rig on{{.ready_modes = true}, {.queue_count = 2}, {.answers_max = answers}};
    if (on.reach(controller_state::ready)) {
      break;
    }
    ASSERT_EQ(on.subject->state(), controller_state::failed);
    const failure& why = on.subject->reason();
    EXPECT_EQ(why.what.code, errc::timed_out) << why.message();
    EXPECT_EQ(why.object, "sim:0");
    EXPECT_NE(why.hint, "");
    EXPECT_LE(on.clock.now() - instant{}, seconds{6}) << why.message();
    EXPECT_EQ(on.transport->in_flight(), why.operation == "map memory" ? 1U : 0U);
    names.push_back(why.operation);
    ASSERT_LT(answers, 100U);
  }
  EXPECT_EQ(names,
            (std::vector<std::string>{
                "map memory", "read PCI id", "read PCI command", "enable bus mastering",
                "read capabilities", "read version", "read PCI command", "enable bus mastering",
                "read configuration", "wait for disable", "size admin queues",
                "place admin submission queue", "place admin completion queue", "configure",
                "read capabilities again", "read ready timeout", "enable", "wait for ready"}));
}

TEST(controller, EveryAdminCommandThatIsNotAnsweredTimesOutUnderItsOwnName) {
  std::vector<std::string> names;
  for (std::size_t answers = 0;; ++answers) {
    controller_rig on{{}, {.queue_count = 2}};
    on.device.faults.admin_answers_max = answers;
    if (on.reach(controller_state::ready)) {
      break;
    }
    const failure& why = on.subject->reason();
    EXPECT_EQ(why.what.code, errc::timed_out) << why.message();
    names.push_back(why.operation);
    ASSERT_LT(answers, 100U);
  }
  EXPECT_EQ(names,
            (std::vector<std::string>{
                "identify controller", "identify command set", "list namespaces",
                "identify namespace", "read namespace names", "request queues", "create queues",
                "create queues", "create queues", "create queues", "configure events"}));
}

TEST(controller, ADeviceThatGoesAwayAtAnyStepIsReportedAtOnce) {
  for (std::size_t operations = 0; operations < 20; ++operations) {
    controller_rig on{{}, {}, {.gone_after = operations}};
    if (on.reach(controller_state::ready)) {
      EXPECT_GT(operations, 10U);
      break;
    }
    ASSERT_EQ(on.subject->state(), controller_state::failed) << operations;
    EXPECT_EQ(on.subject->reason().what.code, errc::device_gone);
    EXPECT_EQ(on.subject->reason().hint, "the other end went away");
    EXPECT_LT(on.clock.now() - instant{}, seconds{1});
  }
}

struct fault_case {
  const char* what;
  void (*place)(controller_rig& on);
  errc code;
  const char* operation;
  const char* hint;  // part of it
};

TEST(controller, WhatIsWrongWithADeviceIsSaid) {
  const fault_case cases[] = {
      {"absent", [](controller_rig& on) { on.device.faults.absent = true; }, errc::device_gone,
       "read PCI id", "no longer there"},
      {"fatal error while enabling",
       [](controller_rig& on) { on.device.faults.fatal_on_enable = true; }, errc::bad_status,
       "wait for ready", "CFS"},
      {"never ready", [](controller_rig& on) { on.device.faults.never_ready = true; },
       errc::timed_out, "wait for ready", "1000 ms"},
      {"never disabled",
       [](controller_rig& on) {
         on.device.faults.never_disabled = true;
         on.device.write(0x14, enabled_configuration(4096));  // somebody left it enabled
       },
       errc::timed_out, "wait for disable", "1000 ms"},
      {"large pages only", [](controller_rig& on) { on.device.options.page_shift_min = 4; },
       errc::unsupported, "read capabilities", "65536"},
      {"queues too short", [](controller_rig& on) { on.device.options.queue_entries = 64; },
       errc::invalid, "read capabilities", "between 1 and 63"},
      {"a namespace with wrong blocks",
       [](controller_rig& on) { on.device.options.block_shift = 8; }, errc::unsupported,
       "identify namespace", "namespace 1"},
      {"no namespace", [](controller_rig& on) { on.device.options.namespaces.clear(); },
       errc::not_found, "list namespaces", "no active namespace"},
      {"another namespace", [](controller_rig& on) { on.device.options.namespaces = {3, 4}; },
       errc::not_found, "list namespaces", "there is 3, 4"},
      {"too few queues", [](controller_rig& on) { on.device.options.queues = 1; }, errc::invalid,
       "request queues", "1 queue"},
      {"identify refused",
       [](controller_rig& on) {
         on.device.faults.admin_status[admin_opcode::identify] = status_code::invalid_field;
       },
       errc::bad_status, "identify controller", ""},
      {"queues refused",
       [](controller_rig& on) {
         on.device.faults.admin_status[admin_opcode::create_io_sq] =
             status_code::invalid_queue_size;
       },
       errc::bad_status, "create queues", ""},
  };
  for (const fault_case& given : cases) {
    SCOPED_TRACE(given.what);
    controller_rig on{{}, {.nsid = 1, .queue_count = 2, .queue_depth = 100}};
    given.place(on);
    ASSERT_TRUE(on.reach(controller_state::failed));
    const failure& why = on.subject->reason();
    SCOPED_TRACE(why.message());
    EXPECT_EQ(why.what.code, given.code);
    EXPECT_EQ(why.operation, given.operation);
    EXPECT_NE(why.hint.find(given.hint), std::string::npos);
  }
}

TEST(controller, WorksWithoutNamesOfNamespaces) {
  controller_rig on;
  on.device.faults.identify_status[identify_cns::namespace_descriptors] =
      status_code::invalid_field;
  ASSERT_TRUE(on.reach(controller_state::ready));
  EXPECT_FALSE(on.subject->details().names.uuid.has_value());
}

TEST(controller, AWindowThatIsTooSmallIsSaid) {
  controller_rig on{{}, {.queue_count = 8, .queue_depth = 1000}};
  const auto rest = on.memory.allocate(15 * mib, 4096).value();
  ASSERT_TRUE(on.reach(controller_state::failed));
  EXPECT_EQ(on.subject->reason().what.code, errc::no_memory);
  EXPECT_NE(on.subject->reason().hint.find("KiB"), std::string::npos);
  on.memory.release(rest);
}

TEST(controller, AControllerLeftEnabledIsDisabledFirst) {
  controller_rig on;
  on.device.write(0x14, enabled_configuration(4096));
  ASSERT_TRUE(on.reach(controller_state::ready));
  EXPECT_EQ(on.device.enables, 2U);
}

TEST(controller, PostedDoorbellsServeSeveralQueues) {
  controller_rig on{{}, {.queue_count = 2}, {.map_doorbells = false}};
  ASSERT_TRUE(on.reach(controller_state::ready));
  for (int i = 0; i < 2; ++i) {
    const auto queue = on.subject->make_queue(16).value();
    block_request flush{.op = block_op::flush};
    const std::size_t before = on.transport->posts;
    queue->submit({&flush, 1});
    queue->flush();
    EXPECT_EQ(on.transport->posts, before + 1);
    on.device.run();
    block_completion done;
    EXPECT_EQ(queue->poll({&done, 1}), 1U);
  }
}

TEST(controller, QueuesAreLimitedToWhatItWasOpenedWith) {
  controller_rig on{{}, {.queue_count = 1, .queue_depth = 32}};
  EXPECT_FALSE(on.subject->make_queue(8).has_value());  // not ready
  ASSERT_TRUE(on.reach(controller_state::ready));
  EXPECT_EQ(on.subject->make_queue(0).error().what.code, errc::invalid);
  const auto too_deep = on.subject->make_queue(33);
  ASSERT_FALSE(too_deep.has_value());
  EXPECT_NE(too_deep.error().hint.find("32"), std::string::npos);
  on.queues.push_back(on.subject->make_queue(32).value());
  EXPECT_EQ(on.queues[0]->depth(), 32U);
  EXPECT_EQ(on.subject->make_queue(8).error().what.code, errc::invalid);
}

TEST(controller, TheSmallestQueueThereIsWorks) {
  controller_rig on{{.queue_entries = 2}, {.queue_depth = 1}};
  ASSERT_TRUE(on.reach(controller_state::ready));
  EXPECT_EQ(on.subject->info().transfer_bytes_max, 131072U);  // one command
  on.queues.push_back(on.subject->make_queue(1).value());
  const auto data = on.memory.allocate(131072, 4096).value();
  for (std::size_t i = 1; i <= 5; ++i) {
    EXPECT_EQ(on.submit(block_op::write, i, data, i).state, block_state::pending);
    on.wait_for(i);
  }
  EXPECT_EQ(on.completions.size(), 5U);
}

TEST(controller, ShutdownTurnsTheDeviceOffAndGivesMemoryBack) {
  controller_rig on{{}, {.queue_count = 2}};
  ASSERT_TRUE(on.reach(controller_state::ready));
  EXPECT_LT(on.memory.free_bytes(), on.free_bytes);
  on.subject->shutdown();
  ASSERT_TRUE(on.reach(controller_state::closed));
  EXPECT_EQ(on.device.queue_count(), 0U);
  EXPECT_TRUE(on.device.maps.empty());
  EXPECT_EQ(on.subject->advance(on.clock.now()), never);
  on.subject.reset();
  EXPECT_EQ(on.memory.free_bytes(), on.free_bytes);
  EXPECT_EQ(on.memory.quarantined_bytes(), 0U);
}

TEST(controller, MemoryOfADeviceThatWasNotShutDownIsQuarantined) {
  controller_rig on;
  ASSERT_TRUE(on.reach(controller_state::ready));
  on.transport->disconnect();
  ASSERT_TRUE(on.reach(controller_state::failed));
  on.subject.reset();
  EXPECT_EQ(on.memory.free_bytes() + on.memory.quarantined_bytes(), on.free_bytes);
  EXPECT_GT(on.memory.quarantined_bytes(), 0U);
}

TEST(controller, AShutdownThatIsNotAnsweredFails) {
  controller_rig on;
  ASSERT_TRUE(on.reach(controller_state::ready));
  on.device.faults.never_shut_down = true;
  on.subject->shutdown();
  ASSERT_TRUE(on.reach(controller_state::failed));
  EXPECT_EQ(on.subject->reason().operation, "wait for shutdown");
}

TEST(controller, ADeviceThatWantsHoursIsWaitedForTwoMinutes) {
  for (const bool hours : {false, true}) {
    controller_rig on{{.ready_modes = true,
                       .ready_timeout = static_cast<std::uint16_t>(hours ? 0xfffe : 20),
                       .shutdown_limit = hours ? 0xffff'fffe : 10'000'000}};
    ASSERT_TRUE(on.reach(controller_state::ready));
    const nanoseconds expected = hours ? device_limit_max : seconds{10};
    for (const step_limit who : {step_limit::ready, step_limit::shutdown}) {
      EXPECT_EQ(limit_of({.name = "", .limit = who}, on.subject->details()), expected);
    }
  }
}

TEST(controller, ShutdownDuringBringUpFollowsIt) {
  controller_rig on;
  on.turn();
  on.subject->shutdown();
  EXPECT_TRUE(on.reach(controller_state::closed));
}

TEST(controller, RegionsAreMappedAndUnmappedByTicket) {
  controller_rig on;
  ASSERT_TRUE(on.reach(controller_state::ready));
  const region guest{.address = on.memory.memory().address, .length = 4096};
  const auto mapped = on.subject->map(guest);
  ASSERT_TRUE(mapped.has_value());
  EXPECT_FALSE(on.subject->take(*mapped).has_value());
  on.subject->advance(on.clock.now());
  EXPECT_TRUE(on.subject->take(*mapped).value().has_value());
  EXPECT_EQ(on.device.maps.size(), 2U);
  const auto unmapped = on.subject->unmap(guest);
  on.subject->advance(on.clock.now());
  EXPECT_TRUE(on.subject->take(unmapped.value()).value().has_value());
  EXPECT_EQ(on.device.maps.size(), 1U);
}

TEST(controller, MixedCommandsEndOnceEachWithTheirBytes) {
  constexpr unsigned seed = 4711;
  SCOPED_TRACE(seed);
  std::mt19937 random{seed};
  controller_rig on{{}, {.queue_depth = 32}};
  ASSERT_TRUE(on.reach(controller_state::ready));
  on.queues.push_back(on.subject->make_queue(32).value());
  constexpr std::size_t piece_bytes = 16384;
  const auto data = on.memory.allocate(32 * piece_bytes, 4096).value();
  std::vector<std::byte> expected(on.device.disk.size());
  for (int round = 0; round < 10000; ++round) {
    const std::size_t bytes = (random() % 32 + 1) * 512;
    const std::size_t offset = random() % 128 * 4;
    const auto piece = data.subspan(random() % 31 * piece_bytes + offset, bytes);
    const std::uint64_t first = random() % (4096 - 32);
    std::byte* there = expected.data() + first * 512;
    on.completions.clear();
    if (random() % 2 == 0) {
      std::memset(piece.data(), round, bytes);
      std::memset(there, round, bytes);
      ASSERT_EQ(on.submit(block_op::write, first, piece, 1).state, block_state::pending);
      on.wait_for(1);
    } else {
      ASSERT_EQ(on.submit(block_op::read, first, piece, 1).state, block_state::pending);
      on.wait_for(1);
      ASSERT_EQ(std::memcmp(piece.data(), there, bytes), 0) << round;
    }
    ASSERT_EQ(on.completions.size(), 1U);
    ASSERT_EQ(on.completions[0].status, block_status::success);
  }
  EXPECT_EQ(on.device.disk, expected);
}

}  // namespace
}  // namespace runnel::nvme
