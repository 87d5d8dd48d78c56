#include "drivers/nvme/command_limits.h"

#include <algorithm>

#include "drivers/nvme/prp.h"
#include "mempool/base/bits.h"
#include "mempool/base/check.h"

namespace runnel::nvme {
namespace {

/// Blocks in 2^`shift` pages; all that a command can count where the device states no limit.
std::uint32_t blocks_in_pages(std::uint8_t shift, std::uint32_t block_bytes) noexcept {
  constexpr unsigned shift_max = 20;  // 4 GiB: 65,536 of the largest blocks
  if (shift == 0 || shift >= shift_max) {
    return io_blocks_max;
  }
  const std::uint64_t blocks = (std::uint64_t{host_page_bytes} << shift) / block_bytes;
  return static_cast<std::uint32_t>(std::min<std::uint64_t>(blocks, io_blocks_max));
}

std::uint32_t blocks_in_range(const identify_command_set& limits) noexcept {
  std::uint64_t blocks = io_blocks_max;
  if (limits.dmrsl != 0) {
    blocks = std::min<std::uint64_t>(blocks, limits.dmrsl);
  }
  if (limits.dmsl != 0) {
    blocks = std::min(blocks, limits.dmsl);
  }
  return static_cast<std::uint32_t>(blocks);
}

}  // namespace

command_limits parse_command_limits(const identify_controller& controller,
                                    const identify_command_set& limits,
                                    const request_shape& shape) noexcept {
  CHECK(shape.block_bytes != 0 && shape.commands_max != 0);
  command_limits found{.write_zeroes_blocks = blocks_in_pages(limits.wzsl, shape.block_bytes),
                       .deallocate_blocks = blocks_in_range(limits),
                       .verify_blocks = blocks_in_pages(limits.vsl, shape.block_bytes)};
  const auto offer = [&](block_op which, std::uint16_t oncs, std::uint32_t blocks) {
    const std::uint64_t covered = std::uint64_t{blocks} * shape.commands_max;
    if ((controller.oncs & oncs) != 0 && covered >= blocks_max_without_data) {
      found.operations.insert(which);
    }
  };
  offer(block_op::compare, oncs_compare, blocks_max_without_data);  // limited as read and write are
  offer(block_op::write_zeroes, oncs_write_zeroes, found.write_zeroes_blocks);
  offer(block_op::deallocate, oncs_dataset_management, found.deallocate_blocks);
  offer(block_op::verify, oncs_verify, found.verify_blocks);
  return found;
}

}  // namespace runnel::nvme
