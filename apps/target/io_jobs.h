#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "apps/target/controller_state.h"
#include "apps/target/guest_memory.h"
#include "apps/target/io_queue.h"
#include "apps/target/io_shared.h"
#include "drivers/block.h"
#include "drivers/nvme/spec.h"
#include "drivers/nvme/spec_commands.h"

namespace runnel::target {

/// The commands that are not one read, write or flush of one namespace: compare, verify, write
/// zeroes, dataset management, flush of all namespaces, and compare-and-write pairs. Each is a job
/// of one or more requests, carried out one after another; a job gives the others a turn after
/// every few of them, so that the longest command keeps nobody waiting.
///
/// A pair is alone on its namespace: its path takes no other command until it has ended, and it
/// begins when all others have ended. A gate of the namespace keeps the pairs of other controllers
/// away meanwhile.
///
/// @context one core; no allocation, no system call, no waiting
class io_jobs {
 public:
  /// At once. A command that finds no place stays in its queue.
  static constexpr std::size_t jobs_max = 16;

  io_jobs(std::span<namespace_path> paths, memory_view& memory, const io_limits& limits,
          epoch_counts& epochs, io_counters& counters, error_state& errors);
  io_jobs(const io_jobs&) = delete;
  io_jobs& operator=(const io_jobs&) = delete;
  ~io_jobs() = default;

  /// Takes the command at the front of `queue`, a copy of which is `first`, or the pair that begins
  /// there; answers at once what is wrong or finishes in place. @pre room for one answer
  /// @return commands that left the queue; 0: later
  [[nodiscard]] std::uint32_t take(submission_queue& queue,
                                   const nvme::submission_entry& first) noexcept;

  /// A request of job `index` has ended; `advance` goes on with it.
  void request_ended(std::size_t index, block_status status) noexcept;
  /// Goes on with all that do not wait for a device. @return jobs that got further
  std::uint32_t advance() noexcept;
  [[nodiscard]] bool any() const noexcept { return active_ != 0; }

 private:
  enum class kind : std::uint8_t { ranges, compare, pair, flush_all };
  enum class stage : std::uint8_t { unused, ready, in_flight };
  struct job {
    stage at = stage::unused;
    kind what = kind::ranges;
    block_op op = block_op::verify;  // of ranges
    bool flush_after = false;        // ranges: durable before they are answered
    bool alone = false;              // a pair that has begun
    std::uint8_t request_index = 0;  // of a pair: 0 compare, 1 write
    std::uint32_t path = 0;
    std::uint32_t epoch = 0;
    std::uint32_t range_count = 0;
    std::uint32_t range_index = 0;
    std::uint32_t blocks_done = 0;  // of the range
    submission_queue* queue = nullptr;
    std::array<std::uint16_t, 2> ids{};       // of a pair; else the first
    std::array<block_request, 2> requests{};  // the one to submit next; of a pair: both
    std::array<nvme::dataset_range, nvme::dataset_ranges_max> ranges{};
  };

  [[nodiscard]] job* find_unused() noexcept;
  [[nodiscard]] nvme::status_code plan(job& work, const nvme::submission_entry& command) noexcept;
  [[nodiscard]] nvme::status_code plan_range(job& work, block_op op,
                                             const nvme::submission_entry& command) noexcept;
  [[nodiscard]] nvme::status_code plan_dataset(job& work,
                                               const nvme::submission_entry& command) noexcept;
  [[nodiscard]] nvme::status_code plan_transfer(job& work, std::size_t which, block_op op,
                                                const nvme::submission_entry& command) noexcept;
  [[nodiscard]] std::uint32_t take_pair(submission_queue& queue, job& work,
                                        const nvme::submission_entry& first) noexcept;
  [[nodiscard]] std::array<nvme::status_code, 2> plan_pair(
      job& work, const nvme::submission_entry& first,
      const nvme::submission_entry& second) noexcept;

  void start(job& work, submission_queue& queue) noexcept;
  [[nodiscard]] bool run(job& work, std::uint32_t requests_max) noexcept;
  [[nodiscard]] bool may_begin(job& work) noexcept;
  [[nodiscard]] bool prepare_next(job& work) noexcept;
  [[nodiscard]] bool prepare_range(job& work) noexcept;
  void go_on(job& work, block_status status) noexcept;
  void finish(job& work, nvme::status_code status) noexcept;
  void refuse(submission_queue& queue, const nvme::submission_entry& command,
              nvme::status_code status) noexcept;
  void account(const job& work) noexcept;
  void note(const job& work, std::uint16_t id, nvme::status_code status) noexcept;
  [[nodiscard]] namespace_path* path_of(std::uint32_t nsid) noexcept {
    return nsid - 1 < paths_.size() ? &paths_[nsid - 1] : nullptr;
  }
  [[nodiscard]] std::span<segment> segments_of(const job& work, std::size_t which) noexcept;

  std::span<namespace_path> paths_;
  memory_view& memory_;
  const io_limits& limits_;
  epoch_counts& epochs_;
  io_counters& counters_;
  error_state& errors_;
  std::size_t segments_per_transfer_;
  std::vector<segment> segments_;  // two transfers for each job
  std::vector<job> jobs_;
  std::uint32_t active_ = 0;
};

}  // namespace runnel::target
