#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "drivers/block.h"
#include "drivers/nvme/command_limits.h"
#include "drivers/nvme/prp.h"
#include "drivers/nvme/rings.h"
#include "mempool/base/bits.h"
#include "mempool/base/units.h"

namespace runnel::nvme {

/// When a submission queue's doorbell is rung before `flush`.
enum class doorbell_policy : std::uint8_t {
  eager,  // towards another core's memory: an idle device at once, a busy one every few commands
  burst,  // over a bus or by messages: only at `flush`
};

/// What the controller lets a queue do; written by the controller's thread.
enum class queue_state : std::uint8_t {
  running,
  paused,   // commands in flight end as usual, new ones are refused
  failed,   // commands in flight end as usual, new ones end with `device_gone`
  stopped,  // the device has forgotten the queue: end what is in flight with `aborted`, rewind
  gone,     // as stopped, with `device_gone`, for ever
};

/// Parts of the time that a command may take, counted by the controller. A command is overdue when
/// it has seen more of them begin, so it has had all its time, and a sixteenth more at most.
inline constexpr std::uint8_t ticks_per_command = 16;

/// What a controller and one of its queues tell each other, on two cores. Outlives the queue. Read
/// at every submit and poll, so nobody else's stores shall take its line away.
struct alignas(cache_line_bytes) queue_control {
  static constexpr std::uint32_t ended = 1U << 31U;  // of `overdue`

  std::atomic<queue_state> state{queue_state::paused};
  std::atomic<bool> attached{false};  // a queue_pair exists
  std::atomic<bool> rewound{false};   // set by the queue after `stopped`; cleared by the controller
  std::atomic<std::uint8_t> ticks{0};  // time that passes: queues have no clock
  /// The command that is over its time, one at a time: its id + 1, with `ended` once the device has
  /// answered it; set by the queue. Cleared by the controller when no abort of it is under way, for
  /// until then its id may not name another command.
  std::atomic<std::uint32_t> overdue{0};
};

/// What a queue pair is made of; all memory is borrowed and zeroed.
struct queue_pair_parts {
  submission_ring submission;
  completion_ring completion;
  std::span<std::byte> list_memory;  // prp_list_bytes() for each command, from a page boundary
  iova list_address{};
  queue_control* control = nullptr;
  prp_rules prps;
  command_limits limits;
  std::uint32_t nsid = 1;
  std::uint32_t depth = 0;               // requests that the user was promised
  std::uint32_t commands = 0;            // at least `depth`, fewer than the slots of either ring
  std::uint32_t transfer_bytes_max = 0;  // of one request; larger ones become several commands
  doorbell_policy doorbells = doorbell_policy::eager;
  bool shows_progress = false;  // a device that sees us read need not interrupt
  int wake_fd = -1;  // an eventfd that the device's interrupt writes, borrowed; -1: there is none
};

/// One submission and one completion queue of an NVMe controller, for one core.
///
/// A request becomes one command, built in place in its slot; one that is larger than the device
/// takes, or whose memory PRPs cannot describe in one piece, becomes several, and the first error
/// of them is its status. A block must not straddle memory that does not meet on a page boundary,
/// and memory must be 4-byte aligned: such requests end with `invalid_field`, as do those whose
/// segments and blocks disagree, and those that need more commands than the queue has: its depth,
/// or 16 if that is more and the device has them. Each segment, and each transfer limit's worth of
/// bytes, may need one. Operations without data are split by the device's limits for them; those
/// it does not have end with `invalid_opcode`.
///
/// @context owning core; its controller outlives it
class queue_pair final : public block_queue {
 public:
  explicit queue_pair(const queue_pair_parts& parts);
  queue_pair(const queue_pair&) = delete;
  queue_pair& operator=(const queue_pair&) = delete;
  ~queue_pair() override;

  void submit(std::span<block_request> requests) noexcept override;
  std::size_t poll(std::span<block_completion> out) noexcept override;
  void flush() noexcept override;
  /// The interrupt is always on. What still waits for its doorbell would never end, nor would what
  /// waits for room in the ring that we have not told of.
  [[nodiscard]] bool arm() noexcept override {
    return free_count_ == commands_ || (tell() && wake_fd_ >= 0);
  }
  void disarm() noexcept override;
  [[nodiscard]] int wake_fd() const noexcept override { return wake_fd_; }
  [[nodiscard]] std::uint32_t depth() const noexcept override { return depth_; }

  /// Completions of commands that were not in flight: ignored, and counted here.
  [[nodiscard]] std::uint64_t bogus_completions() const noexcept { return bogus_completions_; }

 private:
  enum class slot_state : std::uint8_t {
    free,
    in_flight,
    overdue,  // in flight, and the controller was told that it is late
    held,     // the command has ended, but its id may not be used yet: parts of its request have
              // not, or it was overdue
    resting,  // so has one that was aborted, and a late answer to it shall not hit another
  };

  /// One command. Four to a cache line.
  struct slot {
    std::uint64_t tag;
    std::uint16_t parts;   // of the request: commands in flight; 0: `parent` counts them
    std::uint16_t parent;  // slot that stands for the request
    block_status status;   // first error so far
    slot_state state;
    std::uint8_t tick;  // when it was taken, or began to rest
  };
  static_assert(sizeof(slot) == 16);

  /// What a command does and how its completion names it.
  struct command_name {
    std::uint64_t opcode;
    std::uint16_t id;
  };

  [[nodiscard]] bool start(block_request& request) noexcept;
  [[nodiscard]] bool start_other(block_request& request) noexcept;
  [[nodiscard]] std::uint16_t take_slot(std::uint64_t tag) noexcept;
  [[nodiscard]] std::uint16_t next_id(std::uint32_t ahead) const noexcept {
    return free_[free_count_ - 1 - ahead];
  }
  void write_command(submission_entry& entry, const command_name& name,
                     const block_request& request, const prp_pair& prps) const noexcept;
  [[nodiscard]] std::uint32_t describe(const block_request& request) noexcept;
  [[nodiscard]] std::uint32_t describe_transfer(const block_request& request) noexcept;
  [[nodiscard]] std::uint32_t describe_without_data(const block_request& request) noexcept;
  void write_range(submission_entry& entry, std::uint16_t id,
                   const block_request& part) const noexcept;
  [[nodiscard]] prp_list list_of(std::uint16_t id) const noexcept;
  [[nodiscard]] bool well_formed(const block_request& request) const noexcept;
  static void decline(std::span<block_request> requests, queue_state state) noexcept;

  [[nodiscard]] bool finish(const completion_view& completion, block_completion& out) noexcept;
  [[nodiscard]] bool finish_other(const completion_view& completion,
                                  block_completion& out) noexcept;
  [[nodiscard]] bool finish_part(std::uint16_t id, block_status status,
                                 block_completion& out) noexcept;
  /// @return whether the device knows of all that it needs to go on
  bool tell() noexcept {
    const bool of_requests = submission_.tell();
    return completion_.tell() && of_requests;
  }
  void retire(std::uint16_t id) noexcept;
  void release(std::uint16_t id) noexcept;
  void look_for_overdue() noexcept;
  void rest(std::uint16_t id) noexcept;
  void end_rests() noexcept;
  [[nodiscard]] bool is_old(const slot& command) const noexcept;
  [[nodiscard]] std::size_t fail_in_flight(std::span<block_completion> out,
                                           queue_state why) noexcept;
  void rewind() noexcept;

  // Hot: read or written by every command.
  submission_ring submission_;
  completion_ring completion_;
  std::vector<slot> slots_;          // by command id
  std::vector<std::uint16_t> free_;  // stack of command ids
  std::uint32_t free_count_ = 0;
  std::uint32_t commands_;
  std::uint32_t nsid_;
  std::uint32_t block_shift_;
  std::uint32_t publish_at_ = 0;  // commands that wait for their doorbell when it is rung
  doorbell_policy doorbells_;
  bool shows_progress_;
  std::uint8_t tick_ = 0;       // of the burst that is submitted
  std::uint8_t tick_seen_ = 0;  // when overdue commands were last looked for
  prp_rules prps_;
  queue_control* control_;

  // Cold.
  std::uint32_t depth_;
  std::uint32_t transfer_bytes_max_;
  int wake_fd_;
  command_limits limits_;
  std::span<std::byte> list_memory_;
  iova list_address_;
  std::size_t list_bytes_;
  std::uint32_t fail_cursor_ = 0;  // slots below are failed already
  std::uint32_t overdue_ = 0;      // what was stored to `overdue`, without `ended`
  std::uint32_t resting_ = 0;      // ids
  std::uint64_t bogus_completions_ = 0;
};

}  // namespace runnel::nvme
