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
#include "mempool/base/clock.h"

// Submission and completion queues in the host's memory, as the controller sees them.
namespace runnel::target {

/// A doorbell that the host writes whenever it likes, with whatever it likes: a register, or a word
/// of its memory that stands in for one. With such a shadow goes an event index: the host rings the
/// register only when it passes that index.
class doorbell {
 public:
  /// @param event_index  null for a register
  void bind(std::byte* word, std::byte* event_index = nullptr) noexcept {
    word_ = word;
    event_index_ = event_index;
  }
  /// The same, and the new word holds what the old one held.
  void move(std::byte* word, std::byte* event_index) noexcept {
    mmio_write(word, mmio_read<std::uint32_t>(word_));
    bind(word, event_index);
  }

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

  /// While we look at the shadow by ourselves the host need not ring: its event index is kept
  /// behind `current`, from where the host goes on. Twice a lap, for the host comes round.
  void keep_quiet(std::uint16_t entries, std::uint16_t current) noexcept {
    if (event_index_ == nullptr) [[likely]] {
      return;
    }
    const std::uint32_t moved =
        (current >= renewed_ ? current : current + std::uint32_t{entries}) - renewed_;
    if (2 * moved >= entries) {
      renew(entries, current);
    }
  }
  void renew(std::uint16_t entries, std::uint16_t current) noexcept {
    if (event_index_ != nullptr) {
      renewed_ = current;
      mmio_write<std::uint32_t>(event_index_, (current == 0 ? entries : current) - 1U);
    }
  }

  /// From here on the host rings when it goes on from `current`; `renew` ends that. Registers ring
  /// anyway. A fence follows before the last look, for the host leaves its value and then reads
  /// ours.
  void ask(std::uint16_t current) noexcept {
    if (event_index_ != nullptr) {
      mmio_write<std::uint32_t>(event_index_, current);
    }
  }

  /// As after reset: index 0.
  void clear() noexcept {
    mmio_write<std::uint32_t>(word_, 0);
    last_wrong_ = 0;
  }

 private:
  std::byte* word_ = nullptr;
  std::byte* event_index_ = nullptr;
  std::uint32_t last_wrong_ = 0;
  std::uint16_t renewed_ = 0;  // where the event index was last put, plus one
};

/// Where completions go. An entry is promised before its command is started, so posting never
/// meets a full queue, however slowly the host reads.
class alignas(cache_line_bytes) completion_queue {
 public:
  void bind(completion_queue_state& state, std::byte* head_doorbell) noexcept {
    state_ = &state;
    head_doorbell_.bind(head_doorbell);
  }
  [[nodiscard]] doorbell& head_doorbell() noexcept { return head_doorbell_; }
  /// A new queue, or one that the host made before this object was. @pre state().entries != 0
  void open() noexcept {
    promised_ = 0;
    untold_ = 0;
    seen_ = state_->head;
    next_look_ = {};
    until_trial_ = trial_period_ = 1;
  }
  void clear_doorbell() noexcept {
    head_doorbell_.clear();
    head_doorbell_.renew(state_->entries, 0);
  }
  /// Whether the host is to be interrupted for something, now or when it has stopped reading.
  [[nodiscard]] bool interrupt_open() const noexcept { return untold_ != 0; }
  /// The host rings when it has read more; see `doorbell`.
  void ask_to_be_rung() noexcept { head_doorbell_.ask(state_->head); }
  void renew() noexcept { head_doorbell_.renew(state_->entries, state_->head); }
  /// Looks for the entries; from now on they are where they were found, or nowhere.
  void find(const guest_memory& memory) noexcept { entries_ = look(memory); }
  void lose() noexcept { entries_ = nullptr; }

  [[nodiscard]] bool exists() const noexcept { return state_->entries != 0; }
  [[nodiscard]] bool reachable() const noexcept { return entries_ != nullptr; }
  /// Nothing was ever posted.
  [[nodiscard]] bool is_new() const noexcept { return state_->tail == 0 && state_->phase == 1; }
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
    read_head(wrong);
    return free_entries();
  }
  /// Whether so many answers ever fit.
  [[nodiscard]] bool can_hold(std::uint32_t count) const noexcept {
    return count < state_->entries;
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

  /// Whether to interrupt the host now; called every turn. Who polls reads by itself before our
  /// patience ends, and is not interrupted as long as it does. Others are told at once, and when
  /// they stop reading short of the tail; whether they poll by now is tried at times.
  [[nodiscard]] bool interrupt_due(instant now, std::uint64_t& wrong) noexcept;
  /// Whether the host has something to read here, for an interrupt that is a level.
  [[nodiscard]] bool unread(std::uint64_t& wrong) noexcept;

 private:
  [[nodiscard]] std::byte* look(const guest_memory& memory) const noexcept;
  void read_head(std::uint64_t& wrong) noexcept {
    state_->head = head_doorbell_.read(state_->entries, state_->head, wrong);
    renew();  // it is read seldom: the host may be nearly a lap further next time
  }
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
  std::uint16_t seen_ = 0;    // the head, when it was last looked at; the tail that was told of
  // Who polls is back sooner, also from a system call; waking a sleeper takes longer than this.
  static constexpr nanoseconds patience{20'000};
  static constexpr std::uint32_t trial_period_max = 128;
  instant next_look_{};             // at the head of one that polls; 0: none is planned
  std::uint32_t until_trial_ = 1;   // interrupts; 0: it is taken for one
  std::uint32_t trial_period_ = 1;  // how many lie between trials: twice as many each time
};

/// Where commands come from.
class alignas(cache_line_bytes) submission_queue {
 public:
  void bind(std::uint16_t id, submission_queue_state& state, std::byte* tail_doorbell) noexcept {
    id_ = id;
    state_ = &state;
    tail_doorbell_.bind(tail_doorbell);
  }
  [[nodiscard]] doorbell& tail_doorbell() noexcept { return tail_doorbell_; }
  void open(completion_queue& answers) noexcept {
    answers_ = &answers;
    in_flight_ = 0;
  }
  void clear_doorbell() noexcept {
    tail_doorbell_.clear();
    tail_doorbell_.renew(state_->entries, 0);
  }
  /// The host need not ring, see `doorbell`.
  void keep_quiet() noexcept { tail_doorbell_.keep_quiet(state_->entries, state_->head); }
  /// The host rings for its next entry, and where there is no room for its answer also when it has
  /// made some; until `renew`.
  void ask_to_be_rung(std::uint64_t& wrong) noexcept {
    tail_doorbell_.ask(state_->head);
    if (answers_->room(1, wrong) == 0) {
      answers_->ask_to_be_rung();
    }
  }
  void renew() noexcept {
    tail_doorbell_.renew(state_->entries, state_->head);
    answers_->renew();
  }
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

  /// Copies the entry behind the next one, also past the end of the ring.
  /// @return false when the host has not written one, or it was aborted
  [[nodiscard]] bool copy_second(nvme::submission_entry& out, std::uint64_t& wrong) noexcept;

  /// Ends a command that waits here: it is answered now, and passed over when its turn comes.
  /// @return false: not found, half of a fused pair, or no room for its answer
  /// @pre reachable, and so are the answers
  [[nodiscard]] bool abort_waiting(std::uint16_t command_id, std::uint64_t& wrong) noexcept;
  [[nodiscard]] bool has_aborted() const noexcept { return state_->aborted_count != 0; }
  /// Of `count` entries from the head, those before the first that was aborted; when that is the
  /// head itself, passes over it and returns 0.
  [[nodiscard]] std::uint32_t before_aborted(std::uint32_t count) noexcept;

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
  /// How far `slot` is from the head, around the end of the ring.
  [[nodiscard]] std::uint32_t distance(std::uint16_t slot) const noexcept {
    return slot >= state_->head ? std::uint32_t{slot} - state_->head
                                : std::uint32_t{slot} + state_->entries - state_->head;
  }
  [[nodiscard]] std::uint16_t slot_at(std::uint32_t distance) const noexcept {
    return static_cast<std::uint16_t>((state_->head + distance) % state_->entries);
  }
  [[nodiscard]] bool is_aborted(std::uint16_t slot) const noexcept;
  void copy_slot(nvme::submission_entry& out, std::uint16_t slot) const noexcept {
    copy_once(&out, entries_ + std::size_t{slot} * sizeof out, sizeof out);
  }
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
