#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <optional>
#include <span>
#include <vector>

#include "drivers/mmio.h"
#include "drivers/nvme/identify.h"
#include "drivers/nvme/spec.h"
#include "mempool/base/check.h"
#include "tests/fuzz/byte_program.h"
#include "tests/sim/plain_transport.h"

namespace runnel::fuzz {

/// An NVMe device that behaves as long as the program says nothing else: at each thing it does, a
/// byte of the program may have it lie, fail, be silent, repeat itself or write what it was not
/// asked for into the memory that was mapped for it. The connection to it fails likewise.
class hostile_device final : public sim::plain_transport {
 public:
  static constexpr std::uint64_t doorbells_at = 0x1000;
  static constexpr std::size_t doorbell_bytes = 4096;
  static constexpr std::uint32_t blocks = 64;

  hostile_device(byte_program& program, bool map_doorbells)
      : plain_transport{doorbells_at + doorbell_bytes},
        program_{program},
        map_doorbells_{map_doorbells} {}

  /// While it is on, the device does what is right, and the program is not asked.
  void be_honest(bool on) noexcept { honest_ = on; }

  /// What the device does by itself: fetches what is rung for, or writes what nobody asked for.
  void run() {
    for (std::uint16_t id = 0; id < queues_max; ++id) {
      for (unsigned budget = 64; budget > 0 && fetch_one(id); --budget) {
      }
    }
    if (lies(16)) {
      scribble();
    }
  }

  instant advance(instant) noexcept override {
    if (state_ == vfio::transport_state::connecting) {
      state_ = vfio::transport_state::ready;
    }
    if (lies(64)) {
      state_ = vfio::transport_state::gone;
      reason_ = {.what = {errc::device_gone}, .operation = "reach", .object = "fuzz", .hint = {}};
    }
    if (state_ == vfio::transport_state::ready) {
      run();
    }
    return never;
  }
  [[nodiscard]] std::span<std::byte> map_region(std::uint32_t index, std::uint64_t offset,
                                                std::uint64_t length) noexcept override {
    const bool fits = index == 0 && offset == doorbells_at && length <= doorbells_.size();
    return map_doorbells_ && fits ? std::span{doorbells_}.first(length) : std::span<std::byte>{};
  }

  [[nodiscard]] result<ticket> region_read(std::uint32_t index, std::uint64_t offset,
                                           std::uint32_t bytes) noexcept override {
    std::uint64_t value = index == 0 ? read_register(offset) : 0;
    if (lies(32)) {
      value = program_.take<std::uint64_t>();
    } else if (lies(32)) {
      value ^= std::uint64_t{1} << program_.below(64);
    }
    return answer(bytes >= 8 ? value : value & ((std::uint64_t{1} << 8 * bytes) - 1));
  }
  [[nodiscard]] result<ticket> region_write(std::uint32_t index, std::uint64_t offset,
                                            std::span<const std::byte> bytes) noexcept override {
    store(index, offset, bytes);
    return answer(0);
  }
  [[nodiscard]] result<> region_post(std::uint32_t index, std::uint64_t offset,
                                     std::span<const std::byte> bytes) noexcept override {
    if (state_ == vfio::transport_state::gone) {
      return fail(errc::device_gone);
    }
    if (lies(16)) {
      return fail(errc::queue_full);
    }
    store(index, offset, bytes);
    return {};
  }
  [[nodiscard]] std::optional<vfio::transport_reply> take(ticket which) noexcept override {
    if (state_ == vfio::transport_state::gone) {
      return vfio::transport_reply{.status = {errc::device_gone}, .value = 0, .data = {}};
    }
    const auto found = replies_.find(which);
    CHECK(found != replies_.end());
    if (lies(32)) {
      return std::nullopt;  // later, or never
    }
    const std::uint64_t value = found->second;
    replies_.erase(found);
    const error status = lies(64) ? error{errc::os, 5} : error{};
    return vfio::transport_reply{.status = status, .value = value, .data = {}};
  }
  void abandon(ticket which) noexcept override { replies_.erase(which); }

  [[nodiscard]] result<ticket> map(const region& memory) noexcept override {
    memory_ = &memory;
    return answer(0);
  }
  [[nodiscard]] result<ticket> unmap(const region& memory) noexcept override {
    CHECK(memory_ == &memory);
    memory_ = nullptr;
    return answer(0);
  }

 private:
  static constexpr std::uint16_t queues_max = 3;
  static constexpr std::uint32_t block_bytes = 512;

  struct ring {
    std::uint64_t base = 0;
    std::uint32_t entries = 0;  // 0: there is none
    std::uint32_t at = 0;       // where we fetch or post next
    std::uint16_t phase = nvme::completion_phase;
  };

  [[nodiscard]] bool lies(std::size_t odds) { return !honest_ && program_.rarely(odds); }

  [[nodiscard]] result<ticket> answer(std::uint64_t value) {
    if (state_ != vfio::transport_state::ready) {
      return fail(errc::device_gone);
    }
    const ticket id{++last_ticket_};
    replies_[id] = value;
    return id;
  }

  [[nodiscard]] std::uint64_t read_register(std::uint64_t offset) const {
    switch (static_cast<nvme::reg>(offset)) {
      case nvme::reg::cap:
        return 63U | 1U << 16U | 2U << 24U | std::uint64_t{1} << 37U | std::uint64_t{1} << 59U;
      case nvme::reg::vs:
        return nvme::version(2, 0);
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

  void store(std::uint32_t index, std::uint64_t offset, std::span<const std::byte> bytes) {
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
    if (!was_enabled) {
      submission_[0] = {.base = asq_, .entries = (aqa_ & 0xfffU) + 1};
      completion_[0] = {.base = acq_, .entries = (aqa_ >> 16U) + 1};
    }
  }

  /// Memory that the driver has mapped for us; null elsewhere.
  [[nodiscard]] std::byte* at(std::uint64_t address, std::uint64_t bytes) const {
    if (memory_ == nullptr) {
      return nullptr;
    }
    const std::uint64_t first = raw(memory_->first_iova());
    const bool inside = address >= first && range_within(address - first, bytes, memory_->length);
    return inside ? memory_->address + (address - first) : nullptr;
  }

  bool fetch_one(std::uint16_t id) {
    ring& queue = submission_[id];
    const auto tail = mmio_read<std::uint32_t>(&doorbells_[std::size_t{8} * id]);
    nvme::submission_entry entry{};
    std::byte* const from = at(queue.base + queue.at * sizeof entry, sizeof entry);
    if (queue.entries == 0 || queue.at == tail || from == nullptr) {
      return false;
    }
    std::memcpy(&entry, from, sizeof entry);
    queue.at = queue.at + 1 == queue.entries ? 0 : queue.at + 1;
    std::uint32_t value = 0;
    const auto status = id == 0 ? serve_admin(entry, value) : serve_io(entry);
    finish(id, entry, status, value);
    return true;
  }

  void finish(std::uint16_t id, const nvme::submission_entry& entry, nvme::status_code status,
              std::uint32_t value) {
    switch (lies(8) ? program_.below(6) : 6) {
      case 0:
        return;  // never
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
    const nvme::completion_entry entry{.command_specific = value,
                                       .sq_head = honest_ ? std::uint8_t{0} : program_.take_byte(),
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
  }

  /// Bytes of the program into any queue, or where the last admin data went.
  void scribble() {
    const std::array<std::uint64_t, 5> places{completion_[0].base, completion_[1].base,
                                              submission_[1].base, data_at_, asq_};
    const std::uint64_t to = program_.pick(places) + program_.take<std::uint16_t>() % 4096;
    const auto bytes = program_.take_bytes(1 + program_.below(32));
    if (std::byte* const there = at(to, bytes.size()); there != nullptr && to != 0) {
      std::ranges::copy(bytes, there);
    }
  }

  nvme::status_code serve_admin(const nvme::submission_entry& entry, std::uint32_t& value) {
    const auto id = static_cast<std::uint16_t>(entry.cdw10);
    const std::uint32_t entries = (entry.cdw10 >> 16U) + 1;
    switch (static_cast<nvme::admin_opcode>(entry.opcode)) {
      case nvme::admin_opcode::identify:
        return identify(entry);
      case nvme::admin_opcode::get_log_page:
        data_at_ = entry.prp1;
        return nvme::status_code::success;
      case nvme::admin_opcode::set_features:
        value = nvme::number_of_queues(queues_max - 1, queues_max - 1);
        return nvme::status_code::success;
      case nvme::admin_opcode::create_io_cq:
      case nvme::admin_opcode::create_io_sq: {
        CHECK(id != 0 && id < queues_max);
        const bool is_sq =
            entry.opcode == static_cast<std::uint8_t>(nvme::admin_opcode::create_io_sq);
        CHECK(at(entry.prp1, entries * (is_sq ? 64ULL : 16ULL)) != nullptr);
        (is_sq ? submission_ : completion_)[id] = {.base = entry.prp1, .entries = entries};
        return nvme::status_code::success;
      }
      case nvme::admin_opcode::delete_io_sq:
        submission_[id % queues_max] = {};
        return nvme::status_code::success;
      case nvme::admin_opcode::delete_io_cq:
        completion_[id % queues_max] = {};
        return nvme::status_code::success;
      default:
        return nvme::status_code::invalid_opcode;
    }
  }

  nvme::status_code identify(const nvme::submission_entry& entry) {
    std::byte* const out = at(entry.prp1, nvme::identify_bytes);
    CHECK(out != nullptr);
    data_at_ = entry.prp1;
    std::memset(out, 0, nvme::identify_bytes);
    switch (static_cast<nvme::identify_cns>(entry.cdw10 & 0xffU)) {
      case nvme::identify_cns::controller: {
        nvme::identify_controller data{};
        data.mdts = honest_ ? std::uint8_t{1} : program_.below<std::uint8_t>(6);
        data.sqes = 0x66;
        data.cqes = 0x44;
        std::memcpy(out, &data, sizeof data);
        break;
      }
      case nvme::identify_cns::active_namespaces:
        out[0] = std::byte{1};
        break;
      case nvme::identify_cns::namespace_nvm: {
        nvme::identify_namespace data{};
        data.nsze = blocks;
        data.lbaf[0].lbads = 9;
        std::memcpy(out, &data, sizeof data);
        break;
      }
      default:
        out[0] = std::byte{3};
        out[1] = std::byte{16};
        break;
    }
    return nvme::status_code::success;
  }

  /// Every page that a command names must be memory that was mapped.
  nvme::status_code serve_io(const nvme::submission_entry& entry) const {
    if (static_cast<nvme::io_opcode>(entry.opcode) == nvme::io_opcode::flush) {
      return nvme::status_code::success;
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

  byte_program& program_;
  bool map_doorbells_;
  bool honest_ = false;
  std::map<ticket, std::uint64_t> replies_;
  std::uint32_t last_ticket_ = 0;
  const region* memory_ = nullptr;

  alignas(4096) std::array<std::byte, doorbell_bytes> doorbells_{};
  std::array<ring, queues_max> submission_;
  std::array<ring, queues_max> completion_;
  std::uint64_t data_at_ = 0;
  std::uint32_t cc_ = 0;
  std::uint32_t aqa_ = 0;
  std::uint64_t asq_ = 0;
  std::uint64_t acq_ = 0;
};

}  // namespace runnel::fuzz
