// Goal: operations other than read and write say to the device what the request says, in as many
// commands as its limits ask for, and what it does not have is refused by status.
// Method: as in queue_pair_test.cc; once through a controller that identifies its device.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "tests/sim/nvme_controller_rig.h"
#include "tests/sim/nvme_queue_pair_rig.h"

namespace runnel::nvme {
namespace {

constexpr block_op_set all_operations{
    block_op::read,         block_op::write,      block_op::flush, block_op::compare,
    block_op::write_zeroes, block_op::deallocate, block_op::verify};

/// A queue whose device has every operation.
queue_pair_rig make_rig(command_limits limits = {}) {
  limits.operations = all_operations;
  return queue_pair_rig{{.limits = limits}};
}

/// Runs one request to its end.
block_status carry_out(queue_pair_rig& on, block_op op, std::uint32_t blocks,
                       const std::vector<segment>& segments = {}) {
  const block_request request = on.submit(op, 8, blocks, segments, 5);
  if (request.state == block_state::done) {
    return request.status;
  }
  on.device.run();
  const auto done = on.poll();
  EXPECT_EQ(done.size(), 1U);
  EXPECT_EQ(done.at(0).tag, 5U);
  return done.at(0).status;
}

TEST(other_commands, CompareTellsEqualBytesFromOthers) {
  auto on = make_rig();
  const auto shape = std::vector{on.piece(1028, 8192), on.piece(65536, 262144)};
  const std::uint32_t blocks = (8192 + 262144) / 512;
  std::ranges::fill(on.data, std::byte{3});
  EXPECT_EQ(carry_out(on, block_op::write, blocks, shape), block_status::success);
  EXPECT_EQ(carry_out(on, block_op::compare, blocks, shape), block_status::success);
  on.data[65536 + 262143] = std::byte{4};
  EXPECT_EQ(carry_out(on, block_op::compare, blocks, shape), block_status::compare_failure);
  EXPECT_EQ(carry_out(on, block_op::compare, 1, {on.piece(0, 512)}), block_status::success);
  EXPECT_EQ(on.device.seen.back().opcode, 0x05U);
}

TEST(other_commands, WithoutDataEachCommandNamesItsBlocksOnly) {
  struct {
    block_op op;
    std::uint8_t opcode;
    std::byte left;  // in the blocks it covered
  } const cases[] = {
      {block_op::write_zeroes, 0x08, std::byte{0}},
      {block_op::deallocate, 0x09, std::byte{0xff}},
      {block_op::verify, 0x0c, std::byte{7}},
  };
  for (const auto& given : cases) {
    SCOPED_TRACE(given.opcode);
    auto on = make_rig({.write_zeroes_blocks = 4, .deallocate_blocks = 4, .verify_blocks = 4});
    std::ranges::fill(on.device.disk, std::byte{7});
    EXPECT_EQ(carry_out(on, given.op, 10), block_status::success);
    ASSERT_EQ(on.device.seen.size(), 3U);
    for (const submission_entry& entry : on.device.seen) {
      EXPECT_EQ(entry.opcode, given.opcode);
      EXPECT_EQ(entry.nsid, 1U);
      EXPECT_EQ(entry.prp2, 0U);
      EXPECT_EQ(entry.prp1 != 0, given.op == block_op::deallocate);
    }
    const auto byte_of = [&on](std::size_t block) { return on.device.disk[block * 512]; };
    EXPECT_EQ(byte_of(7), std::byte{7});
    EXPECT_EQ(byte_of(8), given.left);
    EXPECT_EQ(byte_of(17), given.left);
    EXPECT_EQ(byte_of(18), std::byte{7});
  }
}

TEST(other_commands, ZeroesAreDurableWhenTheyShallBe) {
  auto on = make_rig();
  block_request request{.blocks = 1, .op = block_op::write_zeroes, .force_unit_access = true};
  on.queue->submit({&request, 1});
  request.op = block_op::verify;
  on.queue->submit({&request, 1});
  on.queue->flush();
  on.device.run();
  ASSERT_EQ(on.device.seen.size(), 2U);
  EXPECT_EQ(on.device.seen[0].cdw12, io_force_unit_access);
  EXPECT_EQ(on.device.seen[1].cdw12, 0U);
}

TEST(other_commands, ACommandLeavesNothingBehindForTheNextInItsSlot) {
  auto on = make_rig();
  for (int i = 0; i < 20; ++i) {
    EXPECT_EQ(carry_out(on, block_op::deallocate, 9), block_status::success);
    EXPECT_EQ(carry_out(on, block_op::flush, 0), block_status::success);
    const submission_entry& entry = on.device.seen.back();
    EXPECT_EQ(entry.prp1 | entry.prp2 | entry.cdw10 | entry.cdw11 | entry.cdw12, 0U);
  }
}

TEST(other_commands, WhatTheDeviceDoesNotHaveIsRefused) {
  queue_pair_rig on;
  for (const block_op op :
       {block_op::compare, block_op::write_zeroes, block_op::deallocate, block_op::verify}) {
    EXPECT_EQ(carry_out(on, op, 1, {on.piece(0, 512)}), block_status::invalid_opcode);
  }
  EXPECT_TRUE(on.device.seen.empty());
}

TEST(other_commands, WhatMakesNoSenseIsRefused) {
  auto on = make_rig({.write_zeroes_blocks = 4});
  struct {
    const char* what;
    block_op op;
    std::uint32_t blocks;
    std::vector<segment> segments;
  } const cases[] = {
      {"no blocks", block_op::write_zeroes, 0, {}},
      {"data without a use", block_op::verify, 1, {on.piece(0, 512)}},
      {"more blocks than a request may cover", block_op::deallocate, 65537, {}},
      {"more commands than the queue has", block_op::write_zeroes, 33, {}},
      {"a comparison with nothing", block_op::compare, 1, {}},
      {"a comparison over the limit", block_op::compare, 2049, {on.piece(0, 2049 * 512)}},
  };
  for (const auto& given : cases) {
    SCOPED_TRACE(given.what);
    EXPECT_EQ(carry_out(on, given.op, given.blocks, given.segments), block_status::invalid_field);
  }
  EXPECT_EQ(carry_out(on, block_op::write_zeroes, 32), block_status::success);
}

TEST(other_commands, ARequestWithoutDataWaitsForRoomForAllItsCommands) {
  auto on = make_rig({.verify_blocks = 4});
  on.device.faults.hold_io = true;
  on.submit_block(1);
  EXPECT_EQ(on.submit(block_op::verify, 0, 32, {}).state, block_state::refused);
  on.device.run();
  on.device.release(0);
  ASSERT_EQ(on.poll().size(), 1U);
  EXPECT_EQ(on.submit(block_op::verify, 0, 32, {}).state, block_state::pending);
}

TEST(other_commands, AControllerOffersWhatItsDeviceHas) {
  identify_command_set limits{};
  limits.wzsl = 9;  // 4,096 blocks
  limits.vsl = 1;   // far too few
  controller_rig on{{.block_count = 65536 + 8, .oncs = 0xff, .limits = limits}};
  ASSERT_TRUE(on.reach(controller_state::ready));
  const block_op_set& offered = on.subject->info().operations;
  EXPECT_TRUE(offered.contains(block_op::compare));
  EXPECT_TRUE(offered.contains(block_op::deallocate));
  EXPECT_FALSE(offered.contains(block_op::verify));
  ASSERT_TRUE(offered.contains(block_op::write_zeroes));
  on.queues.push_back(on.subject->make_queue(8).value());
  std::ranges::fill(on.device.disk, std::byte{7});
  block_request request{.tag = 1, .blocks = 65536, .first = lba{8}, .op = block_op::write_zeroes};
  on.queues[0]->submit({&request, 1});
  on.queues[0]->flush();
  on.wait_for(1);
  ASSERT_EQ(on.completions.size(), 1U);
  EXPECT_EQ(on.completions[0].status, block_status::success);
  EXPECT_EQ(on.device.seen.size(), 16U);
  EXPECT_EQ(on.device.disk.back(), std::byte{0});
  EXPECT_EQ(on.device.disk[7 * 512], std::byte{7});
}

TEST(other_commands, ADeviceThatStatesNoLimitsHasNone) {
  controller_rig on{{.oncs = oncs_write_zeroes}};
  on.device.faults.identify_status[identify_cns::controller_command_set] =
      status_code::invalid_field;
  ASSERT_TRUE(on.reach(controller_state::ready));
  EXPECT_TRUE(on.subject->info().operations.contains(block_op::write_zeroes));
}

TEST(other_commands, OperationsMayNotChangeInAReset) {
  controller_rig on{{.oncs = oncs_compare}};
  ASSERT_TRUE(on.reach(controller_state::ready));
  on.device.options.oncs = 0;
  ASSERT_TRUE(on.subject->reset().has_value());
  ASSERT_TRUE(on.reach(controller_state::failed));
  EXPECT_EQ(on.subject->reason().operation, "identify namespace");
}

}  // namespace
}  // namespace runnel::nvme
