#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "apps/target/controller_state.h"
#include "apps/target/error_log.h"
#include "apps/target/guest_memory.h"
#include "apps/target/io_jobs.h"
#include "apps/target/io_queue.h"
#include "apps/target/io_shared.h"
#include "apps/target/queue_table.h"
#include "drivers/block.h"
#include "drivers/nvme/spec.h"

namespace runnel::target {

/// What one core's data path works on; all of it outlives the path.
struct io_parts {
  queue_table* queues = nullptr;
  std::size_t core = 0;  // whose queues
  const guest_memory* memory = nullptr;
  std::span<namespace_path> paths{};  // this core's, one for each namespace
  error_state* errors = nullptr;      // where commands that failed are noted
};

/// The data path of one core: commands from submission queues become requests to block devices,
/// which borrow the host's pages; their completions become answers. Nothing is remembered per
/// command: what the answer needs travels in the request's tag, and a command that a device has no
/// room for simply stays in its queue. Commands that need more than one request, or are rare, go to
/// `io_jobs`.
///
/// @context one core; no allocation, no system call, no waiting
class io_path {
 public:
  /// Commands fetched, judged and submitted together. The answers to a burst are visible before
  /// the next is fetched, so a host that polls is never kept waiting for more than this.
  static constexpr std::uint32_t burst_max = 8;
  /// Commands taken from one queue before the others get their turn.
  static constexpr std::uint32_t fetch_max = 64;

  io_path(const io_parts& parts, const io_limits& limits);
  io_path(const io_path&) = delete;
  io_path& operator=(const io_path&) = delete;
  ~io_path() = default;

  /// Takes commands from all queues that this core serves. @return commands taken
  std::uint32_t fetch() noexcept;
  /// Answers what the devices have finished. @return answers
  std::uint32_t collect() noexcept;

  /// Before the core sleeps: hosts ring for what they submit next. What devices finish they tell
  /// themselves, but nothing tells of jobs; then it is false.
  [[nodiscard]] bool arm() noexcept;
  void disarm() noexcept;

  void set_write_through(bool on) noexcept { limits_.write_through = on; }

  [[nodiscard]] bool quiet() const noexcept {
    return epochs_.in_flight[0] + epochs_.in_flight[1] == 0;
  }

  /// From here on commands use only what the host's memory holds now.
  /// @pre the last call's commands have ended
  void forget_memory() noexcept;
  /// Whether every command that was fetched before `forget_memory` has ended.
  [[nodiscard]] bool memory_forgotten() const noexcept {
    return epochs_.in_flight[epochs_.now ^ 1U] == 0;
  }

  [[nodiscard]] const io_counters& counters() const noexcept { return counters_; }
  [[nodiscard]] io_counters& counters() noexcept { return counters_; }

 private:
  /// Commands next to each other in a queue and for one namespace: one call to its device.
  struct run {
    namespace_path* path = nullptr;
    std::span<const nvme::submission_entry> commands;
    bool job_follows = false;  // the command behind them is not for this path
    std::uint32_t request_count = 0;
    std::size_t segment_count = 0;
    std::array<nvme::status_code, burst_max> verdicts{};  // success: a request stands for it
    std::array<block_request, burst_max> requests{};
  };
  std::uint32_t fetch_from(submission_queue& queue) noexcept;
  void start(std::span<const nvme::submission_entry> commands, std::uint16_t queue) noexcept;
  [[nodiscard]] nvme::status_code judge(run& work, const nvme::submission_entry& command,
                                        std::uint16_t queue) noexcept;
  [[nodiscard]] nvme::status_code judge_transfer(run& work, block_request& request,
                                                 const nvme::submission_entry& command) noexcept;
  [[nodiscard]] std::uint32_t answer(submission_queue& queue, const run& work) noexcept;
  void account(const block_request& request, const namespace_path& path) noexcept;
  void note(const failed_command& failed) noexcept;
  std::uint32_t collect_from(namespace_path& path) noexcept;
  void publish() noexcept;

  queue_table& queues_;
  const core_queues& mine_;
  std::span<namespace_path> paths_;
  memory_view memory_;
  io_limits limits_;
  epoch_counts epochs_;
  io_counters counters_;
  error_state& errors_;
  io_jobs jobs_;
  // Of one burst or one look at a device; kept to spare their initialisation.
  std::array<nvme::submission_entry, burst_max> commands_{};
  run run_;
  std::array<block_completion, 32> finished_{};
  std::size_t segments_per_command_;
  std::vector<segment> segments_;
};

}  // namespace runnel::target
