#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "drivers/block.h"
#include "drivers/nvme/identify.h"
#include "drivers/nvme/spec.h"

// Which optional commands a device has, and how many blocks one of them may cover.
namespace runnel::nvme {

/// CNS 06h for the NVM command set; 0 in any field: no limit. @spec NVM §4.1.5.4 figure 102
struct identify_command_set {
  std::uint8_t vsl;   // largest verify, 2^vsl pages of CAP.MPSMIN
  std::uint8_t wzsl;  // largest write zeroes, likewise
  std::uint8_t wusl;
  std::uint8_t dmrl;    // ranges of one dataset management command
  std::uint32_t dmrsl;  // blocks of a range
  std::uint64_t dmsl;   // blocks of all ranges together
  std::array<std::uint8_t, 4080> reserved16;
};
static_assert(sizeof(identify_command_set) == identify_bytes);
static_assert(offsetof(identify_command_set, dmrsl) == 4);
static_assert(offsetof(identify_command_set, dmsl) == 8);

/// What a queue may ask of its device.
struct command_limits {
  block_op_set operations{block_op::read, block_op::write, block_op::flush};
  std::uint32_t write_zeroes_blocks = io_blocks_max;  // of one command, as those that follow
  std::uint32_t deallocate_blocks = io_blocks_max;
  std::uint32_t verify_blocks = io_blocks_max;

  friend bool operator==(const command_limits&, const command_limits&) noexcept = default;
};

/// How large the blocks and the requests are that limits are judged by.
struct request_shape {
  std::uint32_t block_bytes = 512;
  std::uint32_t commands_max = 1;  // that one request may become
};

/// What a device says that it can do. An operation whose largest request would become too many
/// commands counts as one that it cannot do.
/// @param limits  zeroes if the device is too old to state any
[[nodiscard]] command_limits parse_command_limits(const identify_controller& controller,
                                                  const identify_command_set& limits,
                                                  const request_shape& shape) noexcept;

}  // namespace runnel::nvme
