#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "drivers/nvme/queue_pair.h"
#include "mempool/window.h"

namespace runnel::bench {

/// One queue of an NVMe controller that lives in this core's cache: whatever was rung for it
/// answers at once, in order, by a burst of completions, and moves no data.
class cached_nvme_device {
 public:
  static constexpr std::uint32_t block_bytes = 512;

  /// @param memory  where the rings are; as large as the driver makes them for `depth`
  cached_nvme_device(window& memory, std::uint32_t depth);

  /// The driver's end of the queue. @pre the one before is gone
  [[nodiscard]] std::unique_ptr<block_queue> make_queue();

  /// Answers all commands that it was told of. @return how many
  std::uint32_t answer() noexcept;

  /// As if `count` more commands had come, the same as last lap: to measure `answer` alone.
  void ring_for(std::uint32_t count) noexcept;

 private:
  window& memory_;
  std::uint32_t depth_;
  std::span<nvme::submission_entry> submissions_;
  std::span<nvme::completion_entry> completions_;
  std::span<std::byte> lists_;
  nvme::queue_control control_;
  std::uint32_t fetched_ = 0;   // slot of the next command
  std::uint32_t answered_ = 0;  // slot of the next completion
  std::uint16_t phase_ = nvme::completion_phase;
  alignas(cache_line_bytes) std::uint32_t tail_bell_ = 0;
  alignas(cache_line_bytes) std::uint32_t head_bell_ = 0;
};

}  // namespace runnel::bench
