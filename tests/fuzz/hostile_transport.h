#pragma once

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "mempool/base/check.h"
#include "mempool/base/unique_fd.h"
#include "tests/fuzz/byte_program.h"
#include "tests/sim/plain_transport.h"

namespace runnel::fuzz {

/// When a device lies: where a byte of the program says so, unless it is to be honest.
struct honesty {
  byte_program& program;
  bool always = false;

  [[nodiscard]] bool lies(std::size_t odds) { return !always && program.rarely(odds); }
};

/// The way to a hostile device, which fails, forgets, garbles and breaks off as the program says.
class hostile_transport : public sim::plain_transport {
 public:
  /// While it is on, all goes right, and the program is not asked.
  void be_honest(bool on) noexcept { honesty_.always = on; }

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

  [[nodiscard]] result<ticket> region_read(std::uint32_t index, std::uint64_t offset,
                                           std::uint32_t bytes) noexcept override {
    std::uint64_t value = load(index, offset);
    if (lies(32)) {
      value = program_.take<std::uint64_t>();
    } else if (lies(32)) {
      value ^= std::uint64_t{1} << program_.below(64);
    }
    return answer(bytes >= 8 ? value : value & ((std::uint64_t{1} << 8 * bytes) - 1));
  }
  [[nodiscard]] result<ticket> set_irqs(std::uint32_t, std::uint32_t start,
                                        std::span<const int> eventfds) noexcept override {
    CHECK(start + eventfds.size() <= wakes_.size());
    if (lies(8)) {
      return fail(program_.pick(std::array{errc::queue_full, errc::unsupported}));
    }
    for (const int each : eventfds) {
      wakes_[start++] = unique_fd{::dup(each)};
    }
    return answer(0);
  }

  [[nodiscard]] std::optional<vfio::transport_reply> take(ticket which) noexcept override {
    if (state_ == vfio::transport_state::gone) {
      return vfio::transport_reply{.status = {errc::device_gone}, .value = 0, .data = {}};
    }
    const auto found = std::ranges::find(replies_, which, &reply::which);
    CHECK(found != replies_.end());
    if (lies(32)) {
      return std::nullopt;  // later, or never
    }
    const std::uint64_t value = found->value;
    replies_.erase(found);
    const error status = lies(64) ? error{errc::os, 5} : error{};
    return vfio::transport_reply{.status = status, .value = value, .data = {}};
  }
  void abandon(ticket which) noexcept override {
    std::erase_if(replies_, [which](const reply& each) { return each.which == which; });
  }

  [[nodiscard]] result<ticket> map(const region& memory) noexcept override {
    memory_ = memory_ == nullptr ? &memory : memory_;  // the driver's own comes first
    return answer(0);
  }
  [[nodiscard]] result<ticket> unmap(const region& memory) noexcept override {
    memory_ = memory_ == &memory ? nullptr : memory_;
    return answer(0);
  }

 protected:
  static constexpr std::uint32_t vectors_max = 3;

  hostile_transport(byte_program& program, std::uint64_t bar_bytes, std::uint32_t vectors)
      : plain_transport{bar_bytes, vectors}, program_{program} {
    CHECK(vectors <= vectors_max);
  }

  /// What the device does by itself.
  virtual void run() = 0;
  [[nodiscard]] virtual std::uint64_t load(std::uint32_t index, std::uint64_t offset) const = 0;

  [[nodiscard]] bool lies(std::size_t odds) { return honesty_.lies(odds); }

  /// Memory that the driver has mapped for the device; null elsewhere.
  [[nodiscard]] std::byte* at(std::uint64_t address, std::uint64_t bytes) const {
    if (memory_ == nullptr) {
      return nullptr;
    }
    const std::uint64_t first = raw(memory_->first_iova());
    const bool inside = address >= first && range_within(address - first, bytes, memory_->length);
    return inside ? memory_->address + (address - first) : nullptr;
  }

  byte_program& program_;
  honesty honesty_{.program = program_};
  std::array<unique_fd, vectors_max> wakes_;

 private:
  struct reply {
    ticket which{};
    std::uint64_t value = 0;
  };

  [[nodiscard]] bool post_fits() override { return !lies(16); }

  [[nodiscard]] result<ticket> answer(std::uint64_t value) override {
    if (state_ != vfio::transport_state::ready) {
      return fail(errc::device_gone);
    }
    const ticket id{++last_ticket_};
    replies_.push_back({.which = id, .value = value});
    return id;
  }

  std::vector<reply> replies_;  // few: not taken yet
  std::uint32_t last_ticket_ = 0;
  const region* memory_ = nullptr;
};

}  // namespace runnel::fuzz
