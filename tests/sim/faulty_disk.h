#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "apps/perf/workload.h"
#include "drivers/block.h"
#include "drivers/block_check.h"
#include "tests/sim/volatile_blocks.h"

namespace runnel::sim {

struct faulty_disk_options {
  std::uint32_t block_bytes = 512;
  std::uint64_t block_count = 128;
  /// What a crash leaves whole; smaller than a block: it tears blocks.
  std::uint32_t sector_bytes = 512;
  std::uint64_t seed = 1;
  // Of 256 requests:
  std::uint32_t late = 128;     // are pending for some polls, and overtake each other
  std::uint32_t refused = 0;    // find no room
  std::uint32_t failing = 0;    // end with an error; a write has then happened, or parts of it
  std::uint32_t polls_max = 8;  // that a late request waits
  // Bugs that a test shall find.
  bool flush_does_nothing = false;
  bool force_does_nothing = false;
};

/// A disk whose writes are volatile until they are flushed or forced. What it may do, it does: it
/// finishes requests in any order and late, and only what had completed when a flush was submitted
/// is durable by it. At a crash each unflushed write is kept, dropped, or kept in part, block by
/// block or sector by sector. @context one core, any number of queues
class faulty_disk final : public block_device {
 public:
  /// @param content  what it holds already; empty: zeros
  explicit faulty_disk(const faulty_disk_options& options, std::vector<std::byte> content = {});

  [[nodiscard]] const block_info& info() const noexcept override { return info_; }
  /// The queue does not outlive the disk.
  [[nodiscard]] outcome<std::unique_ptr<block_queue>> make_queue(std::uint32_t depth) override;

  /// What would be left if power were lost now. Requests under way may have happened.
  [[nodiscard]] std::vector<std::byte> crash();
  /// What a read would see now.
  [[nodiscard]] std::span<const std::byte> block(std::uint64_t which) const noexcept {
    return blocks_.block(which);
  }

  [[nodiscard]] std::size_t in_flight() const noexcept { return pending_.size(); }
  /// From here on every request finishes at once, and well.
  void behave() noexcept { options_.late = options_.refused = options_.failing = 0; }

  // What happened so far.
  std::uint64_t late_ones = 0;
  std::uint64_t refusals = 0;
  std::uint64_t failures = 0;
  volatile_blocks::loss lost;  // at crashes

 private:
  class queue;
  struct pending {
    queue* from = nullptr;
    block_request request;
    std::vector<segment> segments;
    std::uint64_t submitted = 0;
    std::uint64_t polls_left = 0;
  };

  [[nodiscard]] bool chance(std::uint32_t of_256) noexcept { return random_.below(256) < of_256; }
  [[nodiscard]] bool start(queue& from, block_request& request);
  [[nodiscard]] std::size_t finish(queue& of, std::span<block_completion> out);
  [[nodiscard]] block_status execute(const block_request& request,
                                     std::span<const segment> segments, std::uint64_t submitted);
  void write(volatile_blocks& to, const block_request& request, std::span<const segment> segments,
             bool failing);
  void read(const block_request& request, std::span<const segment> segments) const;
  [[nodiscard]] bool equals(const block_request& request, std::span<const segment> segments) const;

  faulty_disk_options options_;
  block_info info_;
  block_geometry geometry_;
  perf::random_stream random_;
  volatile_blocks blocks_;
  std::vector<pending> pending_;
  std::uint64_t now_ = 0;  // requests that were executed
};

}  // namespace runnel::sim
