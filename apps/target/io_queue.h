#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "apps/target/controller_state.h"
#include "apps/target/guest_memory.h"
#include "drivers/mmio.h"
#include "drivers/nvme/spec.h"
#include "mempool/base/bits.h"
#include "mempool/base/check.h"

// Submission and completion queues in the host's memory, as the controller sees them.
namespace runnel::target {

/// A doorbell that the host writes whenever it likes, with whatever it likes.
class doorbell {
 public:
  void bind(std::byte* word) noexcept { word_ = word; }

  /// The host's value; `current` when it is not an index of a queue of `entries`. A wrong value is
  /// added to `wrong` once, not every time that it is seen.
  [[nodiscard]] std::uint16_t read(std::uint16_t entries, std::uint16_t current,
                                   std::uint64_t& wrong) noexcept {
    const auto value = mmio_read<std::uint32_t>(word_);
    if (value < entries) [[likely]] {
      return static_cast<std::uint16_t>(value);
    }
    wrong += value != last_wrong_ ? 1U : 0U;
    last_wrong_ = value;
    return current;
  }

  /// As after reset: index 0.
  void clear() noexcept {
    mmio_write<std::uint32_t>(word_, 0);
    last_wrong_ = 0;
  }

 private:
  std::byte* word_ = nullptr;
  std::uint32_t last_wrong_ = 0;
};

/// Where completions go. An entry is promised before its command is started, so posting never
/// meets a full queue, however slowly the host reads.
class completion_queue {
 public:
  void bind(completion_queue_state& state, std::byte* head_doorbell) noexcept {
    state_ = &state;
    head_doorbell_.bind(head_doorbell);
  }
  /// A new queue, or one that the host made before this object was. @pre state().entries != 0
  void open() noexcept {
    promised_ = 0;
    untold_ = 0;
    told_ = state_->tail;
    seen_ = state_->head;
  }
  void clear_doorbell() noexcept { head_doorbell_.clear(); }
  /// Looks for the entries; from now on they are where they were found, or nowhere.
  void find(const guest_memory& memory) noexcept { entries_ = look(memory); }
  void lose() noexcept { entries_ = nullptr; }

  [[nodiscard]] bool exists() const noexcept { return state_->entries != 0; }
  [[nodiscard]] bool reachable() const noexcept { return entries_ != nullptr; }
  /// Whether `find` would succeed.
  [[nodiscard]] bool in_reach(const guest_memory& memory) const noexcept {
    return look(memory) != nullptr;
  }
  [[nodiscard]] const completion_queue_state& state() const noexcept { return *state_; }

  /// How many entries can be promised; looks at the host's head when fewer than `wanted` are known.
  [[nodiscard]] std::uint32_t room(std::uint32_t wanted, std::uint64_t& wrong) noexcept {
    const std::uint32_t known = free_entries();
    if (known >= wanted) [[likely]] {
      return known;
    }
    state_->head = head_doorbell_.read(state_->entries, state_->head, wrong);
    return free_entries();
  }
  void promise(std::uint32_t count) noexcept { promised_ += count; }
  void keep_promise() noexcept { --promised_; }

  /// Writes one entry; the store of its second half publishes it. @pre reachable, room or a promise
  void post(const nvme::completion_entry& entry) noexcept {
    CHECK(entries_ != nullptr);
    const std::uint32_t status = std::uint32_t{entry.status_and_phase} | state_->phase;
    std::byte* slot = entries_ + std::size_t{state_->tail} * sizeof entry;
    mmio_write(slot, entry.command_specific);
    dma_wmb();  // pairs with the host reading the phase first
    mmio_write(slot + 8, std::uint64_t{entry.sq_head} | std::uint64_t{entry.sq_id} << 16U |
                             std::uint64_t{entry.command_id} << 32U | std::uint64_t{status} << 48U);
    if (++state_->tail == state_->entries) {
      state_->tail = 0;
      state_->phase ^= 1U;
    }
    ++untold_;
  }

  /// Whether to interrupt the host now. At once when it has read all that it was told of; while it
  /// is reading, only when it has stopped short of the tail since the last call.
  [[nodiscard]] bool interrupt_due(std::uint64_t& wrong) noexcept;
  /// Whether the host has something to read here, for an interrupt that is a level.
  [[nodiscard]] bool unread(std::uint64_t& wrong) noexcept;

 private:
  [[nodiscard]] std::byte* look(const guest_memory& memory) const noexcept;
  [[nodiscard]] std::uint32_t free_entries() const noexcept {
    const std::uint32_t entries = state_->entries;
    const std::uint32_t tail = state_->tail;
    const std::uint32_t head = state_->head;
    const std::uint32_t used = (tail >= head ? tail : tail + entries) - head + promised_;
    return used < entries - 1 ? entries - 1 - used : 0;
  }

  completion_queue_state* state_ = nullptr;
  std::byte* entries_ = nullptr;
  doorbell head_doorbell_;
  std::uint32_t promised_ = 0;
  std::uint32_t untold_ = 0;  // posted since the last interrupt; the tail may be back where it was
  std::uint16_t told_ = 0;    // tail at the last interrupt
  std::uint16_t seen_ = 0;    // head when an interrupt was last considered
};

/// Where commands come from.
class submission_queue {
 public:
  void bind(std::uint16_t id, submission_queue_state& state, std::byte* tail_doorbell) noexcept {
    id_ = id;
    state_ = &state;
    tail_doorbell_.bind(tail_doorbell);
  }
  void open(completion_queue& answers) noexcept {
    answers_ = &answers;
    in_flight_ = 0;
  }
  void clear_doorbell() noexcept { tail_doorbell_.clear(); }
  void find(const guest_memory& memory) noexcept;
  void lose() noexcept { entries_ = nullptr; }

  [[nodiscard]] bool exists() const noexcept { return state_->entries != 0; }
  [[nodiscard]] bool reachable() const noexcept { return entries_ != nullptr; }
  [[nodiscard]] std::uint16_t id() const noexcept { return id_; }
  [[nodiscard]] const submission_queue_state& state() const noexcept { return *state_; }
  [[nodiscard]] completion_queue& answers() const noexcept { return *answers_; }

  /// Entries that wait, up to the end of the ring.
  [[nodiscard]] std::uint32_t waiting(std::uint64_t& wrong) noexcept {
    const std::uint16_t tail = tail_doorbell_.read(state_->entries, state_->head, wrong);
    dma_rmb();  // pairs with the host writing the doorbell after the entries
    return (tail >= state_->head ? tail : state_->entries) - std::uint32_t{state_->head};
  }

  /// Copies the next entries. @pre out.size() <= waiting(), reachable
  void copy(std::span<nvme::submission_entry> out) const noexcept {
    const std::byte* from = entries_ + std::size_t{state_->head} * sizeof(nvme::submission_entry);
    for (nvme::submission_entry& entry : out) {  // a size known to the compiler is two loads
      copy_once(&entry, from, sizeof entry);
      from += sizeof entry;
    }
  }

  /// One entry is taken. @return the new head, for the answers
  std::uint16_t advance() noexcept {
    if (++state_->head == state_->entries) {
      state_->head = 0;
    }
    return state_->head;
  }

  /// Commands started and not yet answered.
  [[nodiscard]] std::uint32_t in_flight() const noexcept { return in_flight_; }
  void started(std::uint32_t count) noexcept { in_flight_ += count; }
  void ended() noexcept { --in_flight_; }

  void answer(std::uint16_t command_id, nvme::status_code status,
              std::uint32_t result = 0) noexcept {
    post(command_id, nvme::status_word(status, 0), result);
  }
  /// Says no to a command that would fail again.
  void refuse(std::uint16_t command_id, nvme::status_code status) noexcept {
    post(command_id, nvme::status_word(status, 0, true), 0);
  }

 private:
  void post(std::uint16_t command_id, std::uint16_t status, std::uint32_t result) noexcept {
    answers_->post({.command_specific = result,
                    .sq_head = state_->head,
                    .sq_id = id_,
                    .command_id = command_id,
                    .status_and_phase = status});
  }

  submission_queue_state* state_ = nullptr;
  const std::byte* entries_ = nullptr;
  completion_queue* answers_ = nullptr;
  doorbell tail_doorbell_;
  std::uint32_t in_flight_ = 0;
  std::uint16_t id_ = 0;
};

}  // namespace runnel::target
