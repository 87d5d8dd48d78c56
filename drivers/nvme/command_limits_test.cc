// Goal: an operation is offered when the device has it and its largest request fits the commands
// that a request may become, whatever numbers the device gives. Method: tables.
#include "drivers/nvme/command_limits.h"

#include <gtest/gtest.h>

namespace runnel::nvme {
namespace {

command_limits parse(std::uint16_t oncs, const identify_command_set& limits,
                     const request_shape& shape = {.block_bytes = 512, .commands_max = 16}) {
  identify_controller controller{};
  controller.oncs = oncs;
  return parse_command_limits(controller, limits, shape);
}

TEST(command_limits, OperationsAreWhatTheDeviceSays) {
  struct {
    std::uint16_t oncs;
    block_op_set expected;
  } const cases[] = {
      {0, {block_op::read, block_op::write, block_op::flush}},
      {oncs_compare, {block_op::read, block_op::write, block_op::flush, block_op::compare}},
      {oncs_write_zeroes,
       {block_op::read, block_op::write, block_op::flush, block_op::write_zeroes}},
      {oncs_dataset_management,
       {block_op::read, block_op::write, block_op::flush, block_op::deallocate}},
      {oncs_verify, {block_op::read, block_op::write, block_op::flush, block_op::verify}},
  };
  for (const auto& given : cases) {
    SCOPED_TRACE(given.oncs);
    EXPECT_EQ(parse(given.oncs, {}).operations, given.expected);
  }
}

TEST(command_limits, ALimitSplitsRequestsAndOneTooSmallTakesTheOperationAway) {
  struct {
    const char* what;
    std::uint8_t shift;
    std::uint32_t block_bytes;
    std::uint32_t blocks;
    bool offered;
  } const cases[] = {
      {"none", 0, 512, 65536, true},
      {"2 MiB: 16 commands", 9, 512, 4096, true},
      {"1 MiB: 32 commands", 8, 512, 2048, false},
      {"less than a block", 1, 65536, 0, false},
      {"more than a command counts", 19, 512, 65536, true},
      {"more than numbers hold", 255, 65536, 65536, true},
  };
  for (const auto& given : cases) {
    SCOPED_TRACE(given.what);
    identify_command_set limits{};
    limits.wzsl = limits.vsl = given.shift;
    const command_limits found =
        parse(0xffff, limits, {.block_bytes = given.block_bytes, .commands_max = 16});
    EXPECT_EQ(found.write_zeroes_blocks, given.blocks);
    EXPECT_EQ(found.verify_blocks, given.blocks);
    EXPECT_EQ(found.operations.contains(block_op::write_zeroes), given.offered);
    EXPECT_EQ(found.operations.contains(block_op::verify), given.offered);
    EXPECT_TRUE(found.operations.contains(block_op::deallocate));
  }
}

TEST(command_limits, ARangeIsLimitedByItselfAndByTheCommand) {
  struct {
    std::uint32_t dmrsl;
    std::uint64_t dmsl;
    std::uint32_t blocks;
    bool offered;
  } const cases[] = {
      {0, 0, 65536, true},       {8192, 0, 8192, true},  {0, 8192, 8192, true},
      {~0U, ~0ULL, 65536, true}, {4095, 0, 4095, false}, {8192, 1, 1, false},
  };
  for (const auto& given : cases) {
    SCOPED_TRACE(testing::Message() << given.dmrsl << " " << given.dmsl);
    identify_command_set limits{};
    limits.dmrsl = given.dmrsl;
    limits.dmsl = given.dmsl;
    const command_limits found = parse(0xffff, limits);
    EXPECT_EQ(found.deallocate_blocks, given.blocks);
    EXPECT_EQ(found.operations.contains(block_op::deallocate), given.offered);
  }
}

}  // namespace
}  // namespace runnel::nvme
