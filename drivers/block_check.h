#pragma once

#include <bit>
#include <cstdint>
#include <string>

#include "drivers/block.h"
#include "mempool/base/checked.h"
#include "mempool/base/error.h"
#include "mempool/base/poison.h"

// What devices that execute requests themselves (ram, null, file) refuse, in one place.
namespace runnel {

inline constexpr std::uint32_t block_bytes_min = 512;
inline constexpr std::uint32_t block_bytes_max = 64 * 1024;

/// The numbers of a disk that a request is judged by.
struct block_geometry {
  std::uint32_t block_bytes = 512;
  std::uint32_t transfer_bytes_max = 0;
  std::uint64_t block_count = 0;
  block_op_set operations{block_op::read, block_op::write, block_op::flush};
};

/// Success when the request may be executed: the disk has the operation, its blocks exist, it is
/// not too large, and its segments hold exactly its blocks, or nothing where it moves no data.
[[nodiscard]] inline block_status check_request(const block_geometry& disk,
                                                const block_request& request) noexcept {
  if (request.op == block_op::flush) {
    return block_status::success;
  }
  if (!disk.operations.contains(request.op)) {
    return block_status::invalid_opcode;
  }
  if (!range_within(raw(request.first), request.blocks, disk.block_count)) {
    return block_status::lba_out_of_range;
  }
  if (!has_data(request.op)) {
    const bool some = request.blocks - 1 < blocks_max_without_data;  // 0 wraps to a huge number
    return some && request.segment_count == 0 ? block_status::success : block_status::invalid_field;
  }
  std::uint64_t left = std::uint64_t{request.blocks} * disk.block_bytes;
  if (left == 0 || left > disk.transfer_bytes_max) {
    return block_status::invalid_field;
  }
  for (std::uint32_t i = 0; i < request.segment_count; ++i) {
    const segment& piece = request.segments[i];
    if (piece.length > left) {
      return block_status::invalid_field;
    }
    check_not_poisoned({piece.address, piece.length});
    left -= piece.length;
  }
  return left == 0 ? block_status::success : block_status::invalid_field;
}

/// Refuses sizes that make no disk, with the numbers and the remedy.
/// @param object  what the user named
[[nodiscard]] inline outcome<> check_disk_size(const std::string& object, std::uint64_t bytes,
                                               std::uint32_t block_bytes) {
  const std::string block = std::to_string(block_bytes);
  if (!std::has_single_bit(block_bytes) || block_bytes < block_bytes_min ||
      block_bytes > block_bytes_max) {
    return fail({errc::invalid}, "open", object,
                "a block size is a power of two from 512 to 65536 bytes, not " + block);
  }
  if (bytes < block_bytes) {
    return fail({errc::invalid}, "open", object,
                "its " + std::to_string(bytes) + " bytes are less than one block of " + block);
  }
  if (bytes % block_bytes != 0) {
    return fail({errc::invalid}, "open", object,
                "its " + std::to_string(bytes) + " bytes are not a multiple of the block size " +
                    block + "; make it " + std::to_string(bytes - bytes % block_bytes) +
                    " or choose another ?block_size=");
  }
  return {};
}

/// Refuses a queue depth that the device does not have, with its limit.
[[nodiscard]] inline outcome<> check_depth(const block_info& disk, std::uint32_t depth) {
  if (depth == 0 || depth > disk.queue_depth_max) {
    return fail({errc::invalid}, "make a queue of depth " + std::to_string(depth) + " on",
                disk.address,
                "its queues take 1 to " + std::to_string(disk.queue_depth_max) + " requests");
  }
  return {};
}

}  // namespace runnel
