#pragma once

#include <liburing.h>

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>

#include "drivers/block.h"
#include "drivers/uring/opened_file.h"
#include "drivers/uring/transfer.h"
#include "mempool/base/error.h"
#include "mempool/base/unique_fd.h"
#include "mempool/region.h"

namespace runnel::uring {

/// Requests to one file through an io_uring of its own. A system call for every eight that were
/// submitted and one for the rest, at the end of the turn, which also collect what has finished;
/// none while nothing is in flight.
/// @context made on the control thread; then the core that uses it first owns it
class ring_queue final : public block_queue {
 public:
  /// @param file    outlives the queue
  /// @param pinned  null, or memory that outlives the queue: registered if limits allow
  /// @error os (io_uring is refused)
  [[nodiscard]] static result<std::unique_ptr<ring_queue>> create(const opened_file& file,
                                                                  std::uint32_t depth,
                                                                  const region* pinned);
  ring_queue(const ring_queue&) = delete;
  ring_queue& operator=(const ring_queue&) = delete;
  /// Waits for what is in flight: the kernel still writes to its memory. Where that fails, since
  /// the disk is silent or another core asks, bounce memory is left to the kernel and never used
  /// again; other memory is its owner's concern. @context owning core
  ~ring_queue() override;

  void submit(std::span<block_request> requests) noexcept override;
  std::size_t poll(std::span<block_completion> out) noexcept override;
  void flush() noexcept override;
  [[nodiscard]] bool arm() noexcept override;
  void disarm() noexcept override;
  [[nodiscard]] int wake_fd() const noexcept override { return wake_.get(); }
  [[nodiscard]] std::uint32_t depth() const noexcept override { return transfers_.depth(); }
  [[nodiscard]] std::uint64_t bytes_copied() const noexcept override {
    return transfers_.bytes_copied();
  }

  /// False when `pinned` was given and could not be registered: requests cost more, that is all.
  [[nodiscard]] bool memory_is_registered() const noexcept { return pinned_ != nullptr; }

 private:
  ring_queue(const opened_file& file, std::uint32_t depth, unique_fd wake)
      : file_{file}, transfers_{file, depth}, wake_{std::move(wake)} {}

  void register_with_kernel(const region* pinned) noexcept;
  void restrict_to_needs() noexcept;
  void push(transfer& one) noexcept;
  void push_rw(io_uring_sqe& entry, transfer& one) noexcept;
  /// The registered piece that holds `memory`, -1 if none does.
  [[nodiscard]] int registered_piece(const iovec& memory) const noexcept;
  void publish() noexcept;
  [[nodiscard]] std::size_t collect(std::span<block_completion> out) noexcept;

  const opened_file& file_;
  transfer_table transfers_;
  io_uring ring_{};
  const region* pinned_ = nullptr;  // registered
  unique_fd wake_;                  // an eventfd
  bool tells_ = false;              // the kernel knows it
  bool armed_ = false;              // and is to write to it
  bool file_is_registered_ = false;
  bool enabled_ = true;  // false: begins as disabled, so that the first user becomes its owner
};

}  // namespace runnel::uring
