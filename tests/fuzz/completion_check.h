#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "apps/target/controller.h"
#include "apps/target/prp_walk.h"
#include "drivers/nvme/spec.h"
#include "mempool/base/check.h"
#include "tests/fuzz/guest.h"

namespace runnel::fuzz {

/// Watches a controller from turn to turn: it completes what it has fetched, once, and nothing
/// else. Counts are always checked, ids as long as a host does not have its own queues overwritten.
class completion_check {
 public:
  static constexpr std::uint16_t queues = 4;

  completion_check(const target::controller& subject, const guest& memory)
      : subject_{subject}, memory_{memory} {}

  /// All commands are forgotten, by a reset.
  void forget() noexcept {
    answers_ = {};
    lost_count_ = false;
  }

  void before_poll() noexcept { before_ = subject_.state(); }

  /// @param only_completions  nothing else was written to the host's memory by this poll
  void after_poll(bool only_completions) {
    const target::controller_state& now = subject_.state();
    const bool readable = only_completions && !areas_overlap(now);
    // Who has its shadow doorbells overwritten may have sent any number of commands.
    lost_count_ |= now.shadow.in_use && !readable;
    if (lost_count_ || nothing_moved(now)) {
      return;
    }
    admin_commands_ = steps(before_.submission_queues[0].head, now.submission_queues[0].head,
                            now.submission_queues[0].entries);
    for (std::uint16_t id = 0; id < queues; ++id) {
      count_fetched(id, now.submission_queues[id], readable);
    }
    for (std::uint16_t id = 0; id < queues; ++id) {
      check_posted(id, now.completion_queues[id], readable);
    }
  }

 private:
  using command = std::pair<std::uint16_t, std::uint16_t>;  // queue and id

  /// What one completion queue owes.
  struct debt {
    std::size_t count = 0;
    bool ids_known = true;
    std::vector<command> commands;
  };
  struct extent {
    std::uint64_t first = 0;
    std::uint64_t bytes = 0;
  };

  [[nodiscard]] static std::uint16_t steps(std::uint16_t from, std::uint16_t to,
                                           std::uint16_t entries) noexcept {
    return static_cast<std::uint16_t>(to >= from ? to - from : to + entries - from);
  }

  [[nodiscard]] bool nothing_moved(const target::controller_state& now) const noexcept {
    for (std::size_t id = 0; id < queues; ++id) {
      if (now.submission_queues[id].head != before_.submission_queues[id].head ||
          now.completion_queues[id].tail != before_.completion_queues[id].tail) {
        return false;
      }
    }
    return true;
  }

  void count_fetched(std::uint16_t id, const target::submission_queue_state& now, bool readable) {
    const target::submission_queue_state& was = before_.submission_queues[id];
    if (was.entries == 0 || now.entries == 0) {
      return;
    }
    for (std::uint16_t at = was.head; at != now.head; at = next(at, now.entries)) {
      if (!is_aborted(was, at)) {
        owe(id, now, at, readable);
      }
    }
    for (const std::uint16_t slot : std::span{now.aborted}.first(now.aborted_count)) {
      if (!is_aborted(was, slot)) {
        owe(id, now, slot, readable);
      }
    }
  }

  /// What was aborted while it waited is answered then, and passed over later.
  [[nodiscard]] static bool is_aborted(const target::submission_queue_state& queue,
                                       std::uint16_t slot) {
    const auto aborted = std::span{queue.aborted}.first(queue.aborted_count);
    return std::ranges::find(aborted, slot) != aborted.end();
  }

  void owe(std::uint16_t id, const target::submission_queue_state& queue, std::uint16_t slot,
           bool readable) {
    debt& owed = answers_[queue.completion_queue];
    nvme::submission_entry entry{};
    owed.ids_known &= readable && memory_.read(raw(queue.base) + slot * sizeof entry, entry);
    ++owed.count;
    owed.commands.emplace_back(id, entry.command_id);
  }

  void check_posted(std::uint16_t id, const target::completion_queue_state& now, bool readable) {
    const target::completion_queue_state& was = before_.completion_queues[id];
    if (was.entries == 0 || now.entries == 0) {
      return;
    }
    debt& owed = answers_[id];
    if (now.tail == 0 && now.phase == 1 && admin_commands_ > 1) {
      owed = {};  // deleted and made again, or it has just come round
      return;
    }
    const std::uint16_t posted = steps(was.tail, now.tail, now.entries);
    CHECK(posted <= owed.count);
    owed.count -= posted;
    for (std::uint16_t at = was.tail; at != now.tail; at = next(at, now.entries)) {
      nvme::completion_entry entry{};
      owed.ids_known &= readable && memory_.read(raw(now.base) + at * sizeof entry, entry);
      const auto found = std::ranges::find(owed.commands, command{entry.sq_id, entry.command_id});
      CHECK(!owed.ids_known || found != owed.commands.end());
      if (found != owed.commands.end()) {
        owed.commands.erase(found);
      }
    }
    if (owed.count == 0) {
      owed = {};
    }
  }

  [[nodiscard]] static std::uint16_t next(std::uint16_t at, std::uint16_t entries) noexcept {
    return static_cast<std::uint16_t>(at + 1 == entries ? 0 : at + 1);
  }

  [[nodiscard]] static bool areas_overlap(const target::controller_state& state) {
    std::array<extent, std::size_t{2} * queues + 2> all;
    for (std::size_t id = 0; id < queues; ++id) {
      const auto& sq = state.submission_queues[id];
      const auto& cq = state.completion_queues[id];
      all[2 * id] = {raw(sq.base), std::uint64_t{sq.entries} * sizeof(nvme::submission_entry)};
      all[2 * id + 1] = {raw(cq.base), std::uint64_t{cq.entries} * sizeof(nvme::completion_entry)};
    }
    if (state.shadow.in_use) {
      all[std::size_t{2} * queues] = {raw(state.shadow.doorbells), target::page_bytes};
      all[std::size_t{2} * queues + 1] = {raw(state.shadow.event_indices), target::page_bytes};
    }
    std::ranges::sort(all, {}, &extent::first);
    std::uint64_t end = 0;
    for (const extent& each : all) {
      if (each.bytes != 0 && each.first < end) {
        return true;
      }
      end = std::max(end, each.first + each.bytes);
    }
    return false;
  }

  const target::controller& subject_;
  const guest& memory_;
  target::controller_state before_;
  std::uint16_t admin_commands_ = 0;  // taken in this turn
  bool lost_count_ = false;
  std::array<debt, queues> answers_;
};

}  // namespace runnel::fuzz
