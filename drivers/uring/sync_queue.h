#pragma once

#include <cstdint>
#include <span>

#include "drivers/block.h"
#include "drivers/uring/opened_file.h"
#include "drivers/uring/transfer.h"

namespace runnel::uring {

/// Executes requests with pread and pwrite, in place. The one queue of ours that waits: for kernels
/// and containers that refuse io_uring, where a slow disk is better than none.
/// @context owning core, which stands still during a request
class sync_queue final : public block_queue {
 public:
  /// @param file  outlives the queue
  sync_queue(const opened_file& file, std::uint32_t depth);

  void submit(std::span<block_request> requests) noexcept override;
  std::size_t poll(std::span<block_completion>) noexcept override { return 0; }
  void flush() noexcept override {}
  [[nodiscard]] bool arm() noexcept override { return true; }
  [[nodiscard]] std::uint32_t depth() const noexcept override { return depth_; }
  [[nodiscard]] std::uint64_t bytes_copied() const noexcept override {
    return transfers_.bytes_copied();
  }

 private:
  [[nodiscard]] block_status execute(const block_request& request) noexcept;

  const opened_file& file_;
  transfer_table transfers_;  // one place: requests go one by one
  std::uint32_t depth_;
};

}  // namespace runnel::uring
