#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <span>

#include "tests/sim/conformance/suite.h"

namespace runnel::sim {

/// As much of an NVMe controller's driver as one Identify takes, by the transport alone: admin
/// queues of sixteen in lent memory, and a doorbell that somebody else rings.
/// @spec NVMe Base 2.0 §3.5.1, §5.17
class live_controller {
 public:
  static constexpr std::uint64_t doorbell_at = 0x1000;  // of the admin submission queue
  static constexpr std::size_t pages = 3;               // both queues, and what Identify tells

  explicit live_controller(const lent_memory& memory) : memory_{&memory} {}

  using write_register = std::function<void(std::uint64_t offset, std::uint64_t value, bool wide)>;
  /// Turns it on. @pre its memory is mapped
  void enable(const write_register& write) const {
    constexpr std::uint64_t attributes_at = 0x24;
    constexpr std::uint64_t submission_at = 0x28;
    constexpr std::uint64_t completion_at = 0x30;
    constexpr std::uint64_t configuration_at = 0x14;
    write(attributes_at, 0x000f'000f, false);
    write(submission_at, lent_memory::bus, true);
    write(completion_at, lent_memory::bus + page, true);
    write(configuration_at, 0x0046'0001, false);
  }
  /// Writes the next Identify (of the controller) to its place. @return the doorbell's value for it
  std::uint32_t place_identify() {
    std::array<std::uint32_t, 16> command{};
    command[0] = 0x06U | submitted_ << 16;
    command[6] = static_cast<std::uint32_t>(lent_memory::bus + 2 * page);
    command[10] = 1;
    std::memcpy(memory_->bytes().data() + sizeof(command) * submitted_, command.data(),
                sizeof(command));
    std::memset(told(), 0, page);
    return ++submitted_;
  }
  /// Whether all that was placed has ended; then what Identify told must be there.
  [[nodiscard]] bool is_done() const {
    constexpr std::size_t entry_bytes = 16;
    std::uint32_t last = 0;
    const auto* const at = memory_->bytes().data() + page + entry_bytes * (submitted_ - 1) + 12;
    std::memcpy(&last, at, sizeof(last));
    return (last >> 16 & 1U) != 0;
  }
  /// The sizes of queue entries, which are the same for every controller.
  [[nodiscard]] bool told_itself() const { return told()[512] == std::byte{0x66}; }

 private:
  [[nodiscard]] std::byte* told() const { return memory_->bytes().data() + 2 * page; }

  const lent_memory* memory_;
  std::uint32_t submitted_ = 0;
};

}  // namespace runnel::sim
