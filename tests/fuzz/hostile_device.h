#pragma once

#include <sys/eventfd.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "drivers/mmio.h"
#include "drivers/nvme/registers.h"
#include "drivers/nvme/spec.h"
#include "mempool/base/check.h"
#include "tests/fuzz/byte_program.h"
#include "tests/fuzz/hostile_pages.h"
#include "tests/fuzz/hostile_transport.h"

namespace runnel::fuzz {

/// What a device is, whatever it does later.
struct device_traits {
  bool map_doorbells = true;
  bool shadow_doorbells = false;
  bool interrupts = false;   // a vector for each queue
  std::uint32_t pci_id = 0;  // vendor in the low half
  std::uint32_t version = nvme::version(2, 0);
};

/// An NVMe device that behaves as long as the program says nothing else: at each thing it does, a
/// byte of the program may have it lie, fail, be silent, repeat itself or write what it was not
/// asked for into the memory that was mapped for it. The connection to it fails likewise.
class hostile_device final : public hostile_transport {
 public:
  static constexpr std::uint64_t doorbells_at = 0x1000;
  static constexpr std::size_t doorbell_bytes = 4096;

  hostile_device(byte_program& program, const device_traits& traits)
      : hostile_transport{program, doorbells_at + doorbell_bytes,
                          traits.interrupts ? vectors_max : 0},
        traits_{traits} {}
  hostile_device(const hostile_device&) = delete;
  hostile_device& operator=(const hostile_device&) = delete;

  [[nodiscard]] std::span<std::byte> map_region(std::uint32_t index, std::uint64_t offset,
                                                std::uint64_t length) noexcept override {
    const bool fits = index == 0 && offset == doorbells_at && length <= doorbells_.size();
    return traits_.map_doorbells && fits ? std::span{doorbells_}.first(length)
                                         : std::span<std::byte>{};
  }

 private:
  static constexpr std::uint16_t queues_max = 3;
  static constexpr std::uint32_t block_bytes = 512;
  static constexpr std::size_t event_requests_max = 4;

  struct ring {
    std::uint64_t base = 0;
    std::uint32_t entries = 0;  // 0: there is none
    bool wakes = false;         // of completions: each is an interrupt
    std::uint32_t at = 0;       // where we fetch or post next
    std::uint16_t phase = nvme::completion_phase;
  };
  /// A command that was fetched and has not ended.
  struct held_command {
    std::uint16_t queue = 0;
    std::uint16_t id = 0;
    friend bool operator==(const held_command&, const held_command&) = default;
  };

  /// Whether the driver did what is wrong. What a device wrote over its commands is nothing of its.
  [[nodiscard]] bool is_wrong(bool fine) const {
    CHECK(fine || admin_spoiled_);
    return !fine;
  }

  /// Fetches what is rung for, or writes what nobody asked for.
  void run() override {
    for (std::uint16_t id = 0; id < queues_max; ++id) {
      for (unsigned budget = 64; budget > 0 && fetch_one(id); --budget) {
      }
    }
    if (honesty_.always) {
      return;
    }
    switch (program_.below(16)) {
      case 13:
        return end_late();
      case 14:
        return report_event();
      case 15:
        return scribble();
      default:
        break;
    }
  }

  [[nodiscard]] std::uint64_t load(std::uint32_t index, std::uint64_t offset) const override {
    if (index != 0) {
      return offset == nvme::pci_id ? traits_.pci_id : 0;
    }
    switch (static_cast<nvme::reg>(offset)) {
      case nvme::reg::cap:
        return 63U | 1U << 16U | 2U << 24U | std::uint64_t{1} << 37U | std::uint64_t{1} << 59U;
      case nvme::reg::vs:
        return traits_.version;
      case nvme::reg::cc:
        return cc_;
      case nvme::reg::csts:
        return ((cc_ & nvme::cc_enable) != 0 ? nvme::csts_ready : 0) |
               ((cc_ & nvme::cc_shutdown_mask) != 0 ? nvme::csts_shutdown_complete : 0);
      case nvme::reg::crto:
        return 4;
      default:
        return 0;
    }
  }

  void store(std::uint32_t index, std::uint64_t offset, std::span<const std::byte> bytes) override {
    std::uint64_t value = 0;
    CHECK(bytes.size() <= sizeof value);
    std::memcpy(&value, bytes.data(), bytes.size());
    if (index != 0) {
      return;
    }
    if (offset >= doorbells_at) {
      CHECK(offset - doorbells_at + bytes.size() <= doorbells_.size());
      std::ranges::copy(bytes,
                        doorbells_.begin() + static_cast<std::ptrdiff_t>(offset - doorbells_at));
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
        configure(static_cast<std::uint32_t>(value));
        break;
      default:
        break;
    }
  }

  void configure(std::uint32_t value) {
    const bool was_enabled = (cc_ & nvme::cc_enable) != 0;
    cc_ = value;
    if (((value & nvme::cc_enable) != 0) == was_enabled) {
      return;
    }
    submission_ = completion_ = {};
    doorbells_.fill({});
    held_.clear();
    event_requests_.clear();
    shadows_at_ = indices_at_ = 0;
    admin_spoiled_ = false;
    if (!was_enabled) {
      submission_[0] = {.base = asq_, .entries = (aqa_ & 0xfffU) + 1};
      completion_[0] = {.base = acq_, .entries = (aqa_ >> 16U) + 1};
    }
  }

  /// How far the driver has come; with shadow doorbells it is told when we want to hear of it.
  [[nodiscard]] std::uint32_t tail_of(std::uint16_t id) {
    const std::size_t word = std::size_t{8} * id;
    const std::byte* const shadow =
        id != 0 && shadows_at_ != 0 ? at(shadows_at_ + word, sizeof(std::uint32_t)) : nullptr;
    if (shadow == nullptr) {
      return mmio_read<std::uint32_t>(&doorbells_[word]);
    }
    const auto tail = mmio_read<std::uint32_t>(shadow);
    std::byte* const index = at(indices_at_ + word, sizeof(std::uint32_t));
    if (tail != submission_[id].at && index != nullptr) {
      mmio_write<std::uint32_t>(index, lies(4) ? program_.take<std::uint16_t>() : tail);
    }
    return tail;
  }

  [[nodiscard]] static bool is_event_request(const nvme::submission_entry& entry) {
    return entry.opcode == static_cast<std::uint8_t>(nvme::admin_opcode::async_event_request);
  }

  bool fetch_one(std::uint16_t id) {
    ring& queue = submission_[id];
    if (queue.entries == 0 || queue.at == tail_of(id)) {
      return false;
    }
    nvme::submission_entry entry{};
    const std::byte* const from = at(queue.base + queue.at * sizeof entry, sizeof entry);
    if (from == nullptr) {
      return false;
    }
    std::memcpy(&entry, from, sizeof entry);
    queue.at = queue.at + 1 == queue.entries ? 0 : queue.at + 1;
    if (id == 0 && is_event_request(entry) && event_requests_.size() < event_requests_max &&
        !lies(8)) {
      event_requests_.push_back(entry.command_id);
      return true;
    }
    std::uint32_t value = 0;
    const auto status = id == 0 ? serve_admin(entry, value) : serve_io(entry);
    finish(id, entry, status, value);
    return true;
  }

  void finish(std::uint16_t id, const nvme::submission_entry& entry, nvme::status_code status,
              std::uint32_t value) {
    switch (lies(8) ? program_.below(6) : 6) {
      case 0:
        held_.push_back({.queue = id, .id = entry.command_id});
        return;  // later, or never
      case 1:
        post(id, entry.command_id, static_cast<nvme::status_code>(program_.take<std::uint16_t>()),
             program_.take<std::uint32_t>());
        return;
      case 2:
        post(id, program_.take<std::uint16_t>(), status, value);
        return;
      case 3:
        post(id, entry.command_id, status, value);
        break;  // twice
      case 4:
        post(id, entry.command_id, status, program_.take<std::uint32_t>());
        return;
      case 5:
        scribble();
        break;
      default:
        break;
    }
    post(id, entry.command_id, status, value);
  }

  void post(std::uint16_t id, std::uint16_t command, nvme::status_code status,
            std::uint32_t value) {
    ring& queue = completion_[id];
    const nvme::completion_entry entry{
        .command_specific = value,
        .sq_head = honesty_.always ? std::uint8_t{0} : program_.take_byte(),
        .sq_id = id,
        .command_id = command,
        .status_and_phase = nvme::status_word(status, queue.phase)};
    std::byte* const to = at(queue.base + queue.at * sizeof entry, sizeof entry);
    if (queue.entries == 0 || to == nullptr) {
      return;
    }
    std::memcpy(to, &entry, sizeof entry);
    queue.at = queue.at + 1 == queue.entries ? 0 : queue.at + 1;
    queue.phase ^= queue.at == 0 ? nvme::completion_phase : 0;
    if (queue.wakes && !lies(8)) {
      static_cast<void>(eventfd_write(wakes_[id].get(), 1));
    }
  }

  void end_late() {
    if (!held_.empty()) {
      const auto which = held_.begin() + program_.below<std::ptrdiff_t>(held_.size());
      post(which->queue, which->id, nvme::status_code::success, 0);
      held_.erase(which);
    }
  }

  void report_event() {
    using enum nvme::event_type;
    constexpr auto page = nvme::log_page::health_information;
    constexpr std::array answers{
        nvme::event_answer(error, 3, nvme::log_page::error_information),
        nvme::event_answer(health, 1, page),
        nvme::event_answer(notice, 0, nvme::log_page::changed_namespaces),
        nvme::event_answer(notice, 1, nvme::log_page::firmware_slots),
        nvme::event_answer(command_set, 0, page),
        nvme::event_answer(notice, 77, page),
    };
    if (event_requests_.empty()) {
      return;
    }
    const std::uint32_t said = lies(8) ? program_.take<std::uint32_t>() : program_.pick(answers);
    const auto status =
        lies(8) ? nvme::status_code::aer_limit_exceeded : nvme::status_code::success;
    post(0, event_requests_.back(), status, said);
    event_requests_.pop_back();
  }

  /// Ends the command, or keeps it, or ends it and forgets that.
  void abort(const nvme::submission_entry& entry) {
    const held_command late{.queue = static_cast<std::uint16_t>(entry.cdw10),
                            .id = static_cast<std::uint16_t>(entry.cdw10 >> 16U)};
    const auto found = std::ranges::find(held_, late);
    if (found == held_.end() || lies(4)) {
      return;
    }
    if (!lies(4)) {
      held_.erase(found);
    }
    post(late.queue, late.id, nvme::status_code::abort_requested, 0);
  }

  /// Bytes of the program into any queue, or where the last admin data went.
  void scribble() {
    const std::array<std::uint64_t, 7> places{
        completion_[0].base, completion_[1].base, submission_[1].base, data_at_, asq_,
        shadows_at_,         indices_at_};
    const std::uint64_t to = program_.pick(places) + program_.take<std::uint16_t>() % 4096;
    const auto bytes = program_.take_bytes(1 + program_.below(32));
    if (std::byte* const there = at(to, bytes.size()); there != nullptr && to != 0) {
      std::ranges::copy(bytes, there);
      admin_spoiled_ = admin_spoiled_ || (to < asq_ + 4096 && asq_ < to + bytes.size());
    }
  }

  nvme::status_code serve_admin(const nvme::submission_entry& entry, std::uint32_t& value) {
    const auto id = static_cast<std::uint16_t>(entry.cdw10);
    switch (static_cast<nvme::admin_opcode>(entry.opcode)) {
      case nvme::admin_opcode::identify:
      case nvme::admin_opcode::get_log_page:
        return give_page(entry);
      case nvme::admin_opcode::set_features:
        value = nvme::number_of_queues(queues_max - 1, queues_max - 1);
        return nvme::status_code::success;
      case nvme::admin_opcode::get_features:
        value = entry.cdw10;
        return nvme::status_code::success;
      case nvme::admin_opcode::create_io_cq:
      case nvme::admin_opcode::create_io_sq:
        return create_queue(entry);
      case nvme::admin_opcode::delete_io_sq:
        submission_[id % queues_max] = {};
        return nvme::status_code::success;
      case nvme::admin_opcode::delete_io_cq:
        completion_[id % queues_max] = {};
        return nvme::status_code::success;
      case nvme::admin_opcode::doorbell_buffer_config:
        if (is_wrong(at(entry.prp1, 4096) && at(entry.prp2, 4096))) {
          return nvme::status_code::invalid_field;
        }
        shadows_at_ = entry.prp1;
        indices_at_ = entry.prp2;
        return nvme::status_code::success;
      case nvme::admin_opcode::abort:
        abort(entry);
        return nvme::status_code::success;
      case nvme::admin_opcode::format_nvm:
        pages_.format(entry.cdw10);
        return nvme::status_code::success;
      case nvme::admin_opcode::async_event_request:
        return nvme::status_code::aer_limit_exceeded;
      default:
        return nvme::status_code::invalid_opcode;
    }
  }

  nvme::status_code create_queue(const nvme::submission_entry& entry) {
    const auto id = static_cast<std::uint16_t>(entry.cdw10);
    const std::uint32_t entries = (entry.cdw10 >> 16U) + 1;
    const bool is_sq = entry.opcode == static_cast<std::uint8_t>(nvme::admin_opcode::create_io_sq);
    const bool wakes = !is_sq && (entry.cdw11 & nvme::create_cq_interrupts) != 0;
    if (is_wrong(id != 0 && id < queues_max && at(entry.prp1, entries * (is_sq ? 64ULL : 16ULL)) &&
                 (!wakes || (entry.cdw11 >> 16U == id && wakes_[id])))) {
      return nvme::status_code::invalid_field;
    }
    (is_sq ? submission_ : completion_)[id] = {
        .base = entry.prp1, .entries = entries, .wakes = wakes};
    return nvme::status_code::success;
  }

  /// Identify, or get log page.
  nvme::status_code give_page(const nvme::submission_entry& entry) {
    const bool is_log = entry.opcode == static_cast<std::uint8_t>(nvme::admin_opcode::get_log_page);
    const std::uint64_t log_bytes =
        (std::uint64_t{entry.cdw11 & 0xffffU} << 16U | entry.cdw10 >> 16U) * 4 + 4;
    const std::uint64_t bytes = is_log ? log_bytes : nvme::identify_bytes;
    std::byte* const first = at(entry.prp1, bytes);
    if (is_wrong(first != nullptr && bytes <= 4096 && entry.prp1 % 4096 == 0)) {
      return nvme::status_code::data_transfer_error;
    }
    data_at_ = entry.prp1;
    const std::span out{first, bytes};
    std::ranges::fill(out, std::byte{0});
    if (is_log) {
      pages_.log(static_cast<nvme::log_page>(entry.cdw10 & 0xffU), out);
    } else {
      pages_.identify(static_cast<nvme::identify_cns>(entry.cdw10 & 0xffU), out);
    }
    return nvme::status_code::success;
  }

  /// Every page that a command names must be memory that was mapped.
  nvme::status_code serve_io(const nvme::submission_entry& entry) const {
    switch (static_cast<nvme::io_opcode>(entry.opcode)) {
      case nvme::io_opcode::flush:
      case nvme::io_opcode::write_zeroes:
      case nvme::io_opcode::verify:
        return nvme::status_code::success;
      case nvme::io_opcode::dataset_management:
        return at(entry.prp1, 16) != nullptr ? nvme::status_code::success
                                             : nvme::status_code::data_transfer_error;
      default:
        break;
    }
    std::uint64_t left = std::uint64_t{(entry.cdw12 & 0xffffU) + 1} * block_bytes;
    const std::uint64_t in_first = std::min(left, 4096 - entry.prp1 % 4096);
    const bool list = left > in_first + 4096;
    std::uint64_t page = entry.prp1;
    std::uint64_t bytes = in_first;
    for (std::uint64_t i = 0; left != 0; ++i) {
      std::byte* const there = at(page, bytes);
      if (there == nullptr) {
        return nvme::status_code::data_transfer_error;
      }
      if (static_cast<nvme::io_opcode>(entry.opcode) == nvme::io_opcode::read) {
        std::memset(there, 0x5a, bytes);
      }
      left -= bytes;
      bytes = std::min<std::uint64_t>(left, 4096);
      page = entry.prp2;
      if (const std::byte* const item = list ? at(entry.prp2 + i * 8, 8) : nullptr) {
        std::memcpy(&page, item, sizeof page);
      }
    }
    return nvme::status_code::success;
  }

  device_traits traits_;
  hostile_pages pages_{honesty_, traits_.shadow_doorbells};
  alignas(4096) std::array<std::byte, doorbell_bytes> doorbells_{};
  std::array<ring, queues_max> submission_;
  std::array<ring, queues_max> completion_;
  std::vector<held_command> held_;
  std::vector<std::uint16_t> event_requests_;
  bool admin_spoiled_ = false;  // we wrote where admin commands are
  std::uint64_t data_at_ = 0;
  std::uint64_t shadows_at_ = 0;
  std::uint64_t indices_at_ = 0;
  std::uint32_t cc_ = 0;
  std::uint32_t aqa_ = 0;
  std::uint64_t asq_ = 0;
  std::uint64_t acq_ = 0;
};

}  // namespace runnel::fuzz
