#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>

#include "drivers/block.h"
#include "drivers/nvme/spec.h"
#include "mempool/base/bits.h"

// What the data path shares with the commands that are carried out beside it.
namespace runnel::target {

/// Devices answer in NVMe's terms already.
[[nodiscard]] constexpr nvme::status_code code_of(block_status status) noexcept {
  return static_cast<nvme::status_code>(status);
}

/// One core's way to one namespace, for one controller. A line of its own: other cores have others.
struct alignas(cache_line_bytes) namespace_path {
  std::unique_ptr<block_queue> queue;
  std::uint64_t block_count = 0;
  std::uint32_t block_shift = 9;  // bytes of a block, as a power of two
  std::uint32_t in_flight = 0;    // requests
  bool dirty = false;             // submitted to since the last publish
  bool held = false;              // nothing is started: a fused pair wants it for itself
  bool deallocated_is_zero = false;
  std::uint32_t jobs = 0;                  // that work on it
  bool flushing = false;                   // for the controller itself, see `cache_flush`
  std::atomic<bool>* pair_gate = nullptr;  // of the namespace: one pair at a time over all paths

  /// It has nothing to wait for.
  [[nodiscard]] bool idle() const noexcept { return in_flight == 0 && jobs == 0 && !flushing; }
};

struct io_counters {
  std::uint64_t reads = 0;
  std::uint64_t writes = 0;
  std::uint64_t bytes_read = 0;
  std::uint64_t bytes_written = 0;
  std::uint64_t errors = 0;        // commands that ended with another status than success
  std::uint64_t media_errors = 0;  // of these, data that could not be read or written
  std::uint64_t runs = 0;          // groups of commands fetched together
  std::uint64_t refused = 0;       // bursts that a device had no room for
  std::uint64_t wrong_doorbells = 0;

  io_counters& operator+=(const io_counters& other) noexcept;
};

struct io_limits {
  std::uint32_t transfer_bytes_max = 0;
  block_op_set operations{block_op::read, block_op::write, block_op::flush};  // of all namespaces
  bool write_through = false;  // the host switched the volatile write cache off
};

/// Commands in flight by the epoch of their fetching, see README decision 2.
struct epoch_counts {
  std::uint32_t now = 0;  // 0 or 1
  std::array<std::uint32_t, 2> in_flight{};
};

/// What a completion tells about its command: which it is, or which job waits for it.
struct command_tag {
  std::uint16_t command_id;
  std::uint16_t queue;
  std::uint32_t epoch;

  static constexpr std::uint64_t of_job = std::uint64_t{1} << 63U;  // the job's index is below it

  [[nodiscard]] constexpr std::uint64_t pack() const noexcept {
    return std::uint64_t{epoch} << 32U | std::uint64_t{queue} << 16U | command_id;
  }
  [[nodiscard]] static constexpr command_tag unpack(std::uint64_t tag) noexcept {
    return {static_cast<std::uint16_t>(tag), static_cast<std::uint16_t>(tag >> 16U),
            static_cast<std::uint32_t>(tag >> 32U)};
  }
};

}  // namespace runnel::target
