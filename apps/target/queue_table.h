#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "apps/target/controller_state.h"
#include "apps/target/guest_memory.h"
#include "apps/target/io_queue.h"
#include "drivers/nvme/spec.h"
#include "mempool/base/bits.h"

namespace runnel::target {

struct queue_limits {
  std::uint16_t io_queues = queues_max - 1;  // of each kind
  std::uint16_t entries = queue_entries_max;
  std::uint16_t vectors = queues_max;
  std::uint32_t doorbell_stride_bytes = cache_line_bytes;  // power of two
};

/// One queue as its host asks for it.
struct queue_request {
  queue_id id{};
  iova base{};
  std::uint32_t entries = 0;
  bool contiguous = true;
  bool interrupts = false;             // completion queues
  std::uint16_t vector = 0;            // completion queues
  std::uint16_t completion_queue = 0;  // submission queues
};

/// What one core serves of a controller.
struct core_queues {
  std::vector<submission_queue*> served;        // I/O submission queues; room for all
  std::vector<completion_queue*> interrupting;  // completion queues that interrupt; the same

  /// Whether a host is to be interrupted, see `completion_queue`.
  [[nodiscard]] bool interrupts_open() const noexcept {
    return std::ranges::any_of(interrupting, &completion_queue::interrupt_open);
  }
};

/// The queues of one controller, 0 being the admin pair. What they are is in the state; here is
/// where they are. A submission queue is served while its entries and those of its completion queue
/// are in reach; memory may leave and return under both.
/// A completion queue and those that submit to it are served by one core: number 0 is the
/// controller's own and has the admin pair, the others take turns by the completion queue's number.
/// All lists of all cores change here, so the other cores stand still meanwhile.
class queue_table {
 public:
  /// @param doorbells  at least 2 * stride * (queues + 1) bytes, the host's to write
  queue_table(controller_state& state, const guest_memory& memory, const queue_limits& limits,
              std::span<std::byte> doorbells, std::size_t cores = 1);
  queue_table(const queue_table&) = delete;
  queue_table& operator=(const queue_table&) = delete;
  ~queue_table() = default;

  /// @return success, or what create admin, I/O completion and I/O submission queue answer
  /// @spec NVMe Base 2.0 §5.4, §5.5
  [[nodiscard]] nvme::status_code create_admin(const queue_request& submission,
                                               const queue_request& completion) noexcept;
  [[nodiscard]] nvme::status_code create_completion(const queue_request& request) noexcept;
  [[nodiscard]] nvme::status_code create_submission(const queue_request& request) noexcept;

  /// Whether `remove_*` may follow. @spec NVMe Base 2.0 §5.6, §5.7
  [[nodiscard]] nvme::status_code can_remove_completion(queue_id id) const noexcept;
  [[nodiscard]] nvme::status_code can_remove_submission(queue_id id) const noexcept;
  void remove_completion(queue_id id) noexcept;
  /// Stops serving it; commands in flight still find their queue by number.
  void stop_submission(queue_id id) noexcept;
  /// @pre no command of it is in flight
  void remove_submission(queue_id id) noexcept;
  void remove_all() noexcept;

  /// From here on the doorbells of I/O queues, also of those to come, are words in the host's
  /// memory, laid out as the registers are: a page of doorbells and one of event indices. The admin
  /// queue keeps its registers.
  /// @return prp_offset_invalid, data_transfer_error (out of reach): nothing has changed
  /// @spec NVMe Base 2.0 §5.8
  [[nodiscard]] nvme::status_code use_shadow(iova doorbells, iova event_indices) noexcept;

  /// Looks again for those whose memory moved: submission queues first, so that nothing more is
  /// fetched through leaving memory; completion queues when no command needs them there any more.
  void find_submissions() noexcept;
  void find_completions() noexcept;

  [[nodiscard]] submission_queue& submission(std::uint16_t id) noexcept { return submissions_[id]; }
  [[nodiscard]] submission_queue& admin() noexcept { return submissions_[0]; }
  [[nodiscard]] bool admin_served() const noexcept { return admin_served_; }
  [[nodiscard]] std::size_t core_count() const noexcept { return cores_.size(); }
  /// Stays where it is. @pre index < core_count()
  [[nodiscard]] const core_queues& of_core(std::size_t index) const noexcept {
    return cores_[index];
  }
  /// One of those that are served; null when it is none. @pre any number
  [[nodiscard]] submission_queue* find_served(queue_id id) noexcept;
  [[nodiscard]] bool any_io_queue() const noexcept;

 private:
  [[nodiscard]] nvme::status_code check(const queue_request& request) const noexcept;
  void open_completion(const queue_request& request) noexcept;
  void open_submission(const queue_request& request) noexcept;
  [[nodiscard]] bool servable(std::uint16_t id) const noexcept;
  /// Where the shadow of the registers is; null when there is none, or it is out of reach.
  struct shadow_pages {
    std::byte* doorbells = nullptr;
    std::byte* event_indices = nullptr;
    [[nodiscard]] bool found() const noexcept {
      return doorbells != nullptr && event_indices != nullptr;
    }
  };
  [[nodiscard]] shadow_pages find_shadow() const noexcept;
  [[nodiscard]] std::size_t tail_offset(std::uint16_t id) const noexcept {
    return 2 * std::size_t{limits_.doorbell_stride_bytes} * id;
  }
  [[nodiscard]] std::size_t head_offset(std::uint16_t id) const noexcept {
    return tail_offset(id) + limits_.doorbell_stride_bytes;
  }
  void bind_tails() noexcept;
  void bind_heads() noexcept;
  [[nodiscard]] core_queues& core_of_completion(std::uint16_t id) noexcept {
    return cores_[id == 0 ? 0 : (id - 1U) % cores_.size()];
  }
  void list_served() noexcept;
  void list_interrupting() noexcept;

  controller_state& state_;
  const guest_memory& memory_;
  queue_limits limits_;
  std::byte* registers_;      // doorbells
  bool shadow_lost_ = false;  // in use and out of reach: no I/O queue is served
  std::array<submission_queue, queues_max> submissions_;
  std::array<completion_queue, queues_max> completions_;
  std::array<bool, queues_max> stopped_{};
  bool admin_served_ = false;
  std::vector<core_queues> cores_;
};

}  // namespace runnel::target
