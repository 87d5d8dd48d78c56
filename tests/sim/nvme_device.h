#pragma once

#include <sys/eventfd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <utility>
#include <vector>

#include "drivers/mmio.h"
#include "drivers/nvme/command_limits.h"
#include "drivers/nvme/identify.h"
#include "drivers/nvme/spec.h"
#include "drivers/nvme/spec_commands.h"
#include "mempool/base/checked.h"
#include "mempool/base/unique_fd.h"
#include "mempool/base/units.h"
#include "mempool/region.h"
#include "tests/sim/nvme_device_options.h"

// A small NVMe controller in memory for tests of the driver: registers, queues, a disk. It does
// what it is told by `run`, and misbehaves as its `faults` say. Not hardened: the driver is the
// subject.
namespace runnel::sim {

class nvme_device {
 public:
  explicit nvme_device(nvme_device_options made_as = {})
      : options{std::move(made_as)}, disk(options.block_count << options.block_shift) {}

  nvme_device_options options;
  nvme_faults faults;
  std::vector<std::byte> disk;
  std::vector<nvme::submission_entry> seen;  // every I/O command, as fetched
  std::vector<nvme::submission_entry> held;  // with hold_io: those not completed
  std::size_t admin_answers = 0;
  std::size_t enables = 0;
  std::size_t aborts = 0;
  std::set<nvme::identify_cns> identified;
  std::map<std::uint32_t, std::uint32_t> features;
  std::uint32_t event_lag = 0;  // 0: it wants to be told of the next step; -1: it polls
  std::vector<std::uint16_t> event_requests;  // their command ids
  std::size_t refused_event_requests = 0;
  std::vector<nvme::log_page> logs_read;  // without keeping their events
  nvme::namespace_list changed_namespaces{};
  std::uint8_t critical_warning = 0;
  std::optional<nvme::submission_entry> format;  // the last command that formatted
  std::vector<const region*> maps;
  std::map<std::uint32_t, unique_fd> eventfds;  // by vector

  // What the driver does.

  std::uint64_t read(std::uint64_t offset, std::uint32_t bytes) {
    if (faults.absent) {
      return nvme::all_ones >> (64 - 8 * bytes);
    }
    switch (static_cast<nvme::reg>(offset)) {
      case nvme::reg::cap:
        return capabilities();
      case nvme::reg::vs:
        return nvme::version(2, 0);
      case nvme::reg::cc:
        return cc_;
      case nvme::reg::csts:
        return csts_;
      case nvme::reg::crto:
        return options.ready_timeout;
      default:
        return 0;
    }
  }

  void write(std::uint64_t offset, std::uint64_t value) {
    if (offset >= static_cast<std::uint64_t>(nvme::reg::doorbells)) {
      const std::uint64_t at = offset - static_cast<std::uint64_t>(nvme::reg::doorbells);
      mmio_write(&doorbells_[at], static_cast<std::uint32_t>(value));
      return;
    }
    switch (static_cast<nvme::reg>(offset)) {
      case nvme::reg::aqa:
        aqa_ = static_cast<std::uint32_t>(value);
        break;
      case nvme::reg::asq:
        asq_ = value;
        break;
      case nvme::reg::acq:
        acq_ = value;
        break;
      case nvme::reg::cc:
        write_configuration(static_cast<std::uint32_t>(value));
        break;
      default:
        break;
    }
  }

  std::span<std::byte> doorbells() { return doorbells_; }

  // What the device does.

  /// Fetches and carries out everything that is rung for, unless it cannot.
  void run() {
    for (auto& [id, queue] : submission_) {
      const std::uint32_t tail = told(id, nvme::sq_doorbell_offset(id, stride()));
      while (works() && submission_.contains(id) && queue.head != tail) {
        nvme::submission_entry entry;
        std::memcpy(&entry, at(queue.base + queue.head * sizeof entry, sizeof entry), sizeof entry);
        queue.head = queue.head + 1 == queue.entries ? 0 : queue.head + 1;
        if (id == 0) {
          if (!admin(entry)) {
            return;  // the queues are not what they were
          }
        } else {
          seen.push_back(entry);
          if (faults.hold_io) {
            held.push_back(entry);
          } else {
            complete(id, entry.command_id, execute(entry));
          }
        }
      }
    }
  }

  /// Carries out a held command.
  void release(std::size_t index, std::uint16_t queue = 1) {
    const nvme::submission_entry entry = held[index];
    held.erase(held.begin() + static_cast<std::ptrdiff_t>(index));
    complete(queue, entry.command_id, execute(entry));
  }

  /// Writes a completion, asked for or not; `post` any entry. Its phase makes it the next.
  void complete(std::uint16_t queue, std::uint16_t command_id, nvme::status_code status,
                std::uint32_t value = 0) {
    post(queue, {.command_specific = value,
                 .sq_head = static_cast<std::uint16_t>(
                     submission_.contains(queue) ? submission_.at(queue).head : 0),
                 .sq_id = queue,
                 .command_id = command_id,
                 .status_and_phase = nvme::status_word(status, 0)});
  }
  void post(std::uint16_t queue, const nvme::completion_entry& entry) {
    overflows += room(queue) == 0 ? 1U : 0U;
    ring& cq = completion_.at(queue);
    write_entry(cq, entry, cq.phase);
    cq.head = cq.head + 1 == cq.entries ? 0 : cq.head + 1;
    cq.phase ^= cq.head == 0 ? nvme::completion_phase : 0;
    if (const auto wake = eventfds.find(cq.vector); wake != eventfds.end()) {
      (void)eventfd_write(wake->second.get(), 1);
    }
  }
  /// Writes one where the next will be, with the phase of the last lap.
  void post_with_old_phase(std::uint16_t queue, const nvme::completion_entry& entry) {
    write_entry(completion_.at(queue), entry, completion_.at(queue).phase ^ 1U);
  }
  /// Completions that the driver has made room for; of a queue that is not there, none.
  [[nodiscard]] std::uint32_t room(std::uint16_t queue) {
    if (!completion_.contains(queue)) {
      return 0;
    }
    const ring& cq = completion_.at(queue);
    const std::uint32_t head = told(queue, nvme::cq_doorbell_offset(queue, stride()));
    return (head + cq.entries - cq.head - 1) % cq.entries;
  }
  std::size_t overflows = 0;  // completions written into a full queue

  /// Makes an I/O queue pair behind the driver's back.
  void make_queue(std::uint16_t id, iova sq, std::uint32_t sq_entries, iova cq,
                  std::uint32_t cq_entries) {
    submission_[id] = {.base = raw(sq), .entries = sq_entries};
    completion_[id] = {.base = raw(cq), .entries = cq_entries};
    csts_ |= nvme::csts_ready;
  }
  /// Answers a request for events. False: there is none.
  bool report(nvme::event_type type, std::uint8_t information, nvme::log_page page) {
    if (event_requests.empty()) {
      return false;
    }
    complete(0, event_requests.front(), nvme::status_code::success,
             nvme::event_answer(type, information, page));
    event_requests.erase(event_requests.begin());
    return true;
  }
  [[nodiscard]] bool works() const {
    return !faults.absent && (csts_ & (nvme::csts_ready | nvme::csts_fatal)) == nvme::csts_ready;
  }
  [[nodiscard]] std::size_t queue_count() const { return submission_.size(); }
  void fail() { csts_ |= nvme::csts_fatal; }
  /// All of the function is as after power on.
  void reset() { write_configuration(0); }

  /// Carries an I/O command out, without an answer.
  nvme::status_code execute(const nvme::submission_entry& entry) {
    const auto opcode = static_cast<nvme::io_opcode>(entry.opcode);
    if (faults.io_status != nvme::status_code::success || opcode == nvme::io_opcode::flush) {
      return faults.io_status;
    }
    if (opcode == nvme::io_opcode::dataset_management) {
      return deallocate(entry);
    }
    const std::uint64_t first = entry.cdw10 | std::uint64_t{entry.cdw11} << 32U;
    const std::uint64_t blocks = (entry.cdw12 & 0xffffU) + 1;
    if (!range_within(first, blocks, options.block_count)) {
      return nvme::status_code::lba_out_of_range;
    }
    if (opcode == nvme::io_opcode::verify) {
      return nvme::status_code::success;
    }
    if (opcode == nvme::io_opcode::write_zeroes) {
      std::fill_n(disk.begin() + static_cast<std::ptrdiff_t>(first << options.block_shift),
                  blocks << options.block_shift, std::byte{0});
      return nvme::status_code::success;
    }
    std::uint64_t left = blocks << options.block_shift;
    if (options.mdts != 0 && left > std::uint64_t{4096} << options.mdts) {
      return nvme::status_code::invalid_field;
    }
    std::byte* block = disk.data() + (first << options.block_shift);
    const std::uint64_t in_first = 4096 - (entry.prp1 & 4095U);
    const bool list = left > in_first + 4096;
    for (std::uint64_t i = 0; left != 0; ++i) {
      std::uint64_t address = i == 0 ? entry.prp1 : entry.prp2;
      if (i > 0 && list) {
        std::memcpy(&address, at(entry.prp2 + (i - 1) * 8, 8), 8);
      }
      if (i == 0 ? (address & 3U) != 0 : (address & 4095U) != 0) {
        return nvme::status_code::prp_offset_invalid;
      }
      const std::uint64_t bytes = std::min(left, i == 0 ? in_first : 4096);
      if (opcode == nvme::io_opcode::compare &&
          std::memcmp(at(address, bytes), block, bytes) != 0) {
        return nvme::status_code::compare_failure;
      }
      opcode == nvme::io_opcode::read ? std::memcpy(at(address, bytes), block, bytes)
                                      : std::memcpy(block, at(address, bytes), bytes);
      block += bytes;
      left -= bytes;
    }
    return nvme::status_code::success;
  }

 private:
  struct ring {
    std::uint64_t base = 0;
    std::uint32_t entries = 0;
    std::uint32_t head = 0;  // ours: where we fetch or post next
    std::uint16_t phase = nvme::completion_phase;
    std::uint32_t vector = ~0U;  // of its interrupts, if it has any
  };

  [[nodiscard]] std::uint32_t stride() const { return 4U << options.doorbell_shift; }
  [[nodiscard]] std::uint32_t bell(std::uint64_t offset) const {
    return mmio_read<std::uint32_t>(
        &doorbells_[offset - static_cast<std::uint64_t>(nvme::reg::doorbells)]);
  }

  /// How far a queue has come. With shadows the device reads those, and says when it wants to be
  /// told again.
  std::uint32_t told(std::uint16_t queue, std::uint64_t offset) {
    if (queue == 0 || !shadows_) {
      return bell(offset);
    }
    const std::uint64_t word = offset - static_cast<std::uint64_t>(nvme::reg::doorbells);
    std::uint32_t value = 0;
    std::memcpy(&value, at(*shadows_ + word, sizeof value), sizeof value);
    const std::uint32_t wanted = value + event_lag;
    std::memcpy(at(event_indices_ + word, sizeof wanted), &wanted, sizeof wanted);
    return value;
  }

  [[nodiscard]] std::uint64_t capabilities() const {
    constexpr std::uint64_t timeout = 2;  // 1 s
    return (options.queue_entries - 1) | std::uint64_t{1} << 16U | timeout << 24U |
           std::uint64_t{options.doorbell_shift} << 32U | std::uint64_t{1} << 37U |
           std::uint64_t{options.page_shift_min} << 48U | std::uint64_t{4} << 52U |
           (options.ready_modes ? std::uint64_t{1} << 59U : 0);
  }

  /// Our memory at a bus address; nothing there is a failed test.
  std::byte* at(std::uint64_t address, std::uint64_t bytes) {
    for (const region* map : maps) {
      const std::uint64_t first = raw(map->first_iova());
      if (address >= first && range_within(address - first, bytes, map->length)) {
        return map->address + (address - first);
      }
    }
    std::abort();
  }

  void write_entry(const ring& cq, nvme::completion_entry entry, unsigned phase) {
    entry.status_and_phase = static_cast<std::uint16_t>(entry.status_and_phase | phase);
    std::memcpy(at(cq.base + cq.head * sizeof entry, sizeof entry), &entry, sizeof entry);
  }

  void write_configuration(std::uint32_t value) {
    const bool was_enabled = (cc_ & nvme::cc_enable) != 0;
    cc_ = value;
    const bool enabled = (value & nvme::cc_enable) != 0;
    if (enabled && !was_enabled) {
      ++enables;
      event_requests.clear();
      shadows_.reset();
      submission_.clear();
      completion_.clear();
      submission_[0] = {.base = asq_, .entries = (aqa_ & 0xfffU) + 1};
      completion_[0] = {.base = acq_, .entries = (aqa_ >> 16U) + 1};
      doorbells_.fill({});
      csts_ = (faults.never_ready ? 0 : nvme::csts_ready) |
              (faults.fatal_on_enable ? nvme::csts_fatal : 0);
    }
    if (!enabled && was_enabled && !faults.never_disabled) {
      submission_.clear();
      completion_.clear();
      held.clear();
      csts_ = 0;
    }
    if ((value & nvme::cc_shutdown_mask) != 0 && !faults.never_shut_down) {
      csts_ |= nvme::csts_shutdown_complete;
    }
  }

  /// False: queues were made or deleted.
  bool admin(const nvme::submission_entry& entry) {
    if (static_cast<nvme::admin_opcode>(entry.opcode) == nvme::admin_opcode::async_event_request &&
        event_requests.size() <= options.aerl && !faults.refuse_event_requests) {
      event_requests.push_back(entry.command_id);
      return true;
    }
    if (faults.admin_answers_max && admin_answers >= *faults.admin_answers_max) {
      return true;
    }
    ++admin_answers;
    const auto opcode = static_cast<nvme::admin_opcode>(entry.opcode);
    std::uint32_t value = 0;
    auto status = nvme::status_code::success;
    if (const auto fault = faults.admin_status.find(opcode); fault != faults.admin_status.end()) {
      status = fault->second;
    } else {
      status = carry_out(opcode, entry, value);
    }
    if (!faults.unanswered.contains(opcode)) {
      complete(0, entry.command_id, status, value);
    }
    return opcode == nvme::admin_opcode::identify || opcode == nvme::admin_opcode::set_features;
  }

  nvme::status_code carry_out(nvme::admin_opcode opcode, const nvme::submission_entry& entry,
                              std::uint32_t& value) {
    const auto id = static_cast<std::uint16_t>(entry.cdw10);
    const std::uint32_t entries = (entry.cdw10 >> 16U) + 1;
    switch (opcode) {
      case nvme::admin_opcode::identify:
        return identify(entry);
      case nvme::admin_opcode::set_features:
        if (static_cast<nvme::feature>(id) == nvme::feature::number_of_queues) {
          value = nvme::number_of_queues(options.queues, options.queues);
        } else {
          features[entry.cdw10] = entry.cdw11;
        }
        return nvme::status_code::success;
      case nvme::admin_opcode::get_features:
        value = features[entry.cdw10];
        return nvme::status_code::success;
      case nvme::admin_opcode::format_nvm:
        format = entry;
        std::ranges::fill(disk, std::byte{0});
        return nvme::status_code::success;
      case nvme::admin_opcode::create_io_cq:
        completion_[id] = {.base = entry.prp1, .entries = entries};
        if ((entry.cdw11 & nvme::create_cq_interrupts) != 0) {
          completion_[id].vector = entry.cdw11 >> 16U;
        }
        return nvme::status_code::success;
      case nvme::admin_opcode::create_io_sq:
        submission_[id] = {.base = entry.prp1, .entries = entries};
        return nvme::status_code::success;
      case nvme::admin_opcode::delete_io_sq:
        return submission_.erase(id) != 0 ? nvme::status_code::success
                                          : nvme::status_code::invalid_queue_id;
      case nvme::admin_opcode::delete_io_cq:
        return completion_.erase(id) != 0 ? nvme::status_code::success
                                          : nvme::status_code::invalid_queue_id;
      case nvme::admin_opcode::get_log_page:
        return get_log(entry);
      case nvme::admin_opcode::abort:
        value = abort(id, static_cast<std::uint16_t>(entry.cdw10 >> 16U)) ? 0 : 1;
        return nvme::status_code::success;
      case nvme::admin_opcode::doorbell_buffer_config:
        shadows_ = entry.prp1;
        event_indices_ = entry.prp2;
        return nvme::status_code::success;
      case nvme::admin_opcode::async_event_request:
        ++refused_event_requests;
        return nvme::status_code::aer_limit_exceeded;
      default:
        return nvme::status_code::invalid_opcode;
    }
  }

  /// Ends a held command of the first queue. False: there is no such command.
  bool abort(std::uint16_t queue, std::uint16_t command_id) {
    ++aborts;
    const auto found = std::ranges::find(held, command_id, &nvme::submission_entry::command_id);
    if (queue != 1 || found == held.end() || faults.aborts_nothing) {
      return false;
    }
    held.erase(found);
    complete(queue, command_id, nvme::status_code::abort_requested);
    return true;
  }

  nvme::status_code get_log(const nvme::submission_entry& entry) {
    const auto page = static_cast<nvme::log_page>(entry.cdw10 & 0xffU);
    if ((entry.cdw10 & nvme::log_retain_event) == 0) {
      logs_read.push_back(page);
    }
    std::array<std::byte, 4096> log{};
    if (page == nvme::log_page::health_information) {
      nvme::health_log health{};
      health.available_spare = 100;
      health.critical_warning = critical_warning;
      std::memcpy(log.data(), &health, sizeof health);
    } else if (page == nvme::log_page::changed_namespaces) {
      std::memcpy(log.data(), changed_namespaces.data(), log.size());
    } else if (page == nvme::log_page::device_self_test) {
      return nvme::status_code::invalid_log_page;
    }
    const std::size_t bytes =
        std::min<std::size_t>(((entry.cdw10 >> 16U) + std::size_t{1}) * 4, log.size());
    std::memcpy(at(entry.prp1, bytes), log.data(), bytes);
    return nvme::status_code::success;
  }

  nvme::status_code identify(const nvme::submission_entry& entry) {
    const auto cns = static_cast<nvme::identify_cns>(entry.cdw10 & 0xffU);
    identified.insert(cns);
    std::byte* out = at(entry.prp1, nvme::identify_bytes);
    std::memset(out, 0, nvme::identify_bytes);
    if (const auto fault = faults.identify_status.find(cns);
        fault != faults.identify_status.end()) {
      return fault->second;
    }
    if (cns == nvme::identify_cns::controller) {
      const nvme::identify_controller data = identity_of(options);
      std::memcpy(out, &data, sizeof data);
    } else if (cns == nvme::identify_cns::controller_command_set) {
      std::memcpy(out, &options.limits, sizeof options.limits);
    } else if (cns == nvme::identify_cns::active_namespaces) {
      std::memcpy(out, options.namespaces.data(), options.namespaces.size() * 4);
    } else if (cns == nvme::identify_cns::namespace_nvm) {
      nvme::identify_namespace data{};
      data.nsze = options.block_count;
      data.lbaf[0].lbads = static_cast<std::uint8_t>(options.block_shift);
      std::memcpy(out, &data, sizeof data);
    } else if (cns == nvme::identify_cns::namespace_descriptors) {
      const nvme::namespace_descriptor head{.nidt = 3, .nidl = 16, .reserved2 = 0};
      std::memcpy(out, &head, sizeof head);
      out[sizeof head] = std::byte{0x42};
    }
    return nvme::status_code::success;
  }

  /// What is given up reads as ones.
  nvme::status_code deallocate(const nvme::submission_entry& entry) {
    nvme::dataset_range range;
    std::memcpy(&range, at(entry.prp1, sizeof range), sizeof range);
    if (entry.cdw10 != 0 || entry.cdw11 != nvme::dataset_deallocate) {
      return nvme::status_code::invalid_field;
    }
    if (!range_within(range.first, range.blocks, options.block_count)) {
      return nvme::status_code::lba_out_of_range;
    }
    std::fill_n(disk.begin() + static_cast<std::ptrdiff_t>(range.first << options.block_shift),
                std::uint64_t{range.blocks} << options.block_shift, std::byte{0xff});
    return nvme::status_code::success;
  }

  alignas(4096) std::array<std::byte, 4096> doorbells_{};
  std::map<std::uint16_t, ring> submission_;
  std::map<std::uint16_t, ring> completion_;
  std::optional<std::uint64_t> shadows_;
  std::uint64_t event_indices_ = 0;
  std::uint32_t cc_ = 0;
  std::uint32_t csts_ = 0;
  std::uint32_t aqa_ = 0;
  std::uint64_t asq_ = 0;
  std::uint64_t acq_ = 0;
};

}  // namespace runnel::sim
