#pragma once

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <set>
#include <utility>

#include "apps/perf/workload.h"
#include "mempool/base/clock.h"
#include "tests/sim/fault_counts.h"
#include "tests/sim/nvme_device.h"

namespace runnel::sim {

/// What goes wrong between the driver and its device.
enum class driver_fault : std::uint8_t {
  late,           // answered after the time limit, unless it is aborted before
  lost_command,   // never carried out
  lost_answer,    // carried out and never answered; an abort finds nothing
  doubled,        // answered twice
  unknown_id,     // an answer to no command
  foreign_queue,  // an answer that names another submission queue
  foreign_head,   // an answer with a head that the queue never had
  old_phase,      // an entry that is not the next yet
  failed,         // ends with an error
  abort_ignored,  // an abort does nothing
  silent_admin,   // an admin command is never answered
  fatal,          // CSTS.CFS, and all work stops
  gone,           // all registers read as ones, and all work stops
  queue_full,     // the queue refused a request
  reset,          // asked for by the user, with requests in flight
  count,
};

using driver_fault_counts = fault_counts<driver_fault>;
inline constexpr driver_fault_counts::names driver_fault_names{"late",
                                                               "lost commands",
                                                               "lost answers",
                                                               "doubled",
                                                               "unknown ids",
                                                               "foreign queues",
                                                               "foreign heads",
                                                               "old phases",
                                                               "failed",
                                                               "aborts ignored",
                                                               "admin commands unanswered",
                                                               "fatal",
                                                               "gone",
                                                               "queue full",
                                                               "resets under load"};

/// An NVMe device that takes its time and makes mistakes, by a seed. Whatever it carries out it
/// carries out right; it never writes to memory of a command that it has answered.
class faulty_nvme_device {
 public:
  faulty_nvme_device(nvme_device_options made_as, std::uint64_t seed, nanoseconds io_limit,
                     driver_fault_counts& counts)
      : device{std::move(made_as)}, random_{seed}, io_limit_{io_limit}, counts_{counts} {
    device.faults.hold_io = true;
  }

  nvme_device device;
  std::uint64_t bogus = 0;  // answers that ended nothing

  /// From here on. Before, it comes up as it should.
  void begin_mistakes() {
    for (std::uint32_t& rate : rates_) {
      rate = random_.below(3) == 0 ? 32 : 0;  // few kinds at a time, so that each has its effect
    }
    device.faults.aborts_nothing = rate_of(driver_fault::abort_ignored) != 0;
    if (rate_of(driver_fault::silent_admin) != 0) {
      device.faults.unanswered.insert(nvme::admin_opcode::abort);
    }
  }

  /// No mistakes begin any more. What was lost stays so.
  void calm_down() {
    rates_.fill(0);
    device.faults.unanswered.clear();
    device.faults.aborts_nothing = false;
  }

  /// Does what it can do now.
  void step(instant now) {
    have_accidents();
    device.run();
    device.run();  // an admin command ends the first
    forget_what_ended();
    for (std::size_t i = 0; i < device.held.size() && device.works();) {
      const nvme::submission_entry entry = device.held[i];
      if (!fates_.contains(entry.command_id)) {
        fates_.emplace(entry.command_id, decide(now));
      }
      const fate its = fates_.at(entry.command_id);
      if (its.due > now || !answer_fits()) {
        ++i;
        continue;
      }
      device.held.erase(device.held.begin() + static_cast<std::ptrdiff_t>(i));
      fates_.erase(entry.command_id);
      finish(entry, its.fault);
    }
  }

  /// When it has something to do by itself.
  [[nodiscard]] instant next() const {
    instant first = never;
    for (const auto& [id, its] : fates_) {
      first = std::min(first, its.due);
    }
    return first;
  }

 private:
  static constexpr std::uint16_t queue = 1;  // the only one

  struct fate {
    instant due{};
    driver_fault fault = driver_fault::count;  // none
  };

  [[nodiscard]] std::uint32_t& rate_of(driver_fault which) {
    return rates_[static_cast<std::size_t>(which)];
  }
  [[nodiscard]] bool chance(driver_fault which) { return random_.below(1024) < rate_of(which); }
  /// Answers that are owed have their room; nonsense only what is left.
  [[nodiscard]] bool answer_fits() { return device.room(queue) > 1; }
  [[nodiscard]] bool nonsense_fits() { return device.room(queue) > device.held.size() + 4; }

  /// What befalls all of it.
  void have_accidents() {
    count_aborts(driver_fault::abort_ignored, device.faults.aborts_nothing);
    count_aborts(driver_fault::silent_admin, !device.faults.unanswered.empty());
    aborts_seen_ = device.aborts;
    const bool running = device.works() && device.room(queue) != 0;
    if (running && chance_of_end(driver_fault::fatal)) {
      device.fail();
      counts_.add(driver_fault::fatal);
    } else if (running && chance_of_end(driver_fault::gone)) {
      device.faults.absent = true;
      counts_.add(driver_fault::gone);
    }
  }
  void count_aborts(driver_fault which, bool on) {
    counts_.add(which, on ? device.aborts - aborts_seen_ : 0);
  }
  [[nodiscard]] bool chance_of_end(driver_fault which) {
    return random_.below(16) == 0 && chance(which);
  }

  void forget_what_ended() {
    if (std::exchange(enables_seen_, device.enables) != device.enables) {
      unanswered_.clear();
      fates_.clear();
    }
    std::erase_if(fates_, [this](const auto& each) {
      return std::ranges::find(device.held, each.first, &nvme::submission_entry::command_id) ==
             device.held.end();
    });
  }

  [[nodiscard]] fate decide(instant now) {
    constexpr std::uint64_t usual_ns_max = 200'000;
    const nanoseconds usual{random_.below(4) == 0 ? 0 : random_.below(usual_ns_max)};
    for (std::size_t i = 0; i < rates_.size(); ++i) {
      const auto which = static_cast<driver_fault>(i);
      if (is_of_a_command(which) && chance(which)) {
        return {.due = due(which, now, usual), .fault = which};
      }
    }
    return {.due = now + usual};
  }
  [[nodiscard]] static constexpr bool is_of_a_command(driver_fault which) {
    return which <= driver_fault::failed;
  }
  [[nodiscard]] instant due(driver_fault which, instant now, nanoseconds usual) {
    if (which == driver_fault::lost_command) {
      counts_.add(which);
      return never;
    }
    if (which == driver_fault::old_phase && answer_fits()) {
      device.post_with_old_phase(queue, random_entry());
      counts_.add(which);
    }
    return now + (which == driver_fault::late
                      ? io_limit_ + nanoseconds{random_.below(
                                        2 * static_cast<std::uint64_t>(io_limit_.count()))}
                      : usual);
  }

  void finish(const nvme::submission_entry& entry, driver_fault what) {
    const bool failed = what == driver_fault::failed;
    nvme::completion_entry answer{
        .command_specific = 0,
        .sq_head = 0,
        .sq_id = queue,
        .command_id = entry.command_id,
        .status_and_phase = nvme::status_word(
            failed ? nvme::status_code::internal_error : device.execute(entry), 0)};
    if (is_nonsense(what) && !nonsense_fits()) {
      what = driver_fault::count;
    }
    if (what != driver_fault::count && what != driver_fault::old_phase) {
      counts_.add(what);
    }
    switch (what) {
      case driver_fault::lost_answer:
        unanswered_.insert(entry.command_id);
        return;
      case driver_fault::foreign_queue:
        answer.sq_id = static_cast<std::uint16_t>(random_.next());
        break;
      case driver_fault::foreign_head:
        answer.sq_head = static_cast<std::uint16_t>(random_.next());
        break;
      case driver_fault::doubled:
        device.post(queue, answer);
        ++bogus;
        break;
      case driver_fault::unknown_id:
        post_unknown(answer);
        break;
      default:
        break;
    }
    device.post(queue, answer);
  }
  [[nodiscard]] static constexpr bool is_nonsense(driver_fault which) {
    return which == driver_fault::doubled || which == driver_fault::unknown_id;
  }

  /// Ids that no queue has, and ids that are free.
  void post_unknown(nvme::completion_entry answer) {
    const auto id =
        static_cast<std::uint16_t>(random_.below(2) == 0 ? random_.next() : random_.below(16));
    if (id != answer.command_id && !in_flight(id)) {
      answer.command_id = id;
      device.post(queue, answer);
      ++bogus;
    }
  }
  [[nodiscard]] bool in_flight(std::uint16_t id) const {
    return unanswered_.contains(id) ||
           std::ranges::find(device.held, id, &nvme::submission_entry::command_id) !=
               device.held.end();
  }

  [[nodiscard]] nvme::completion_entry random_entry() {
    return {.command_specific = random_.next(),
            .sq_head = static_cast<std::uint16_t>(random_.next()),
            .sq_id = queue,
            .command_id = static_cast<std::uint16_t>(random_.below(16)),
            .status_and_phase = static_cast<std::uint16_t>(random_.next() & 0xfffeU)};
  }

  perf::random_stream random_;
  nanoseconds io_limit_;
  driver_fault_counts& counts_;
  std::array<std::uint32_t, driver_fault_counts::kinds> rates_{};  // of 1024 commands
  std::map<std::uint16_t, fate> fates_;                            // by command id
  std::set<std::uint16_t> unanswered_;  // ids of commands that were carried out
  std::size_t aborts_seen_ = 0;
  std::size_t enables_seen_ = 0;
};

}  // namespace runnel::sim
