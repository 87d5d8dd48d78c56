#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

#include "drivers/mmio.h"
#include "drivers/nvme/doorbell.h"
#include "drivers/nvme/spec.h"
#include "mempool/base/bits.h"
#include "mempool/base/check.h"
#include "mempool/base/prefetch.h"

// The two rings of a queue pair, as the admin queue and the I/O queues both use them.
namespace runnel::nvme {

/// Commands on their way to the device. We write entries and the tail; never more commands are
/// outstanding than the ring has slots but one, so the head is nothing we need to know.
class submission_ring {
 public:
  /// The device has read the slots of the last lap, so a store to one waits for its cache line, and
  /// all stores behind it too. Lines are asked for this many commands ahead.
  static constexpr std::uint32_t prefetch_distance = 4;
  submission_ring() noexcept = default;
  /// @param entries  zeroed memory the device reads, borrowed
  submission_ring(std::span<submission_entry> entries, doorbell bell) noexcept
      : entries_{entries.data()}, size_{static_cast<std::uint32_t>(entries.size())}, bell_{bell} {
    CHECK(size_ >= 2);
  }

  /// The slot of the `ahead`th command from now. @pre ahead < free slots
  [[nodiscard]] submission_entry& slot(std::uint32_t ahead = 0) noexcept {
    const std::uint32_t index = tail_ + ahead;
    return entries_[index < size_ ? index : index - size_];
  }
  /// The next `count` slots are filled.
  void push(std::uint32_t count = 1) noexcept {
    tail_ += count;
    tail_ -= tail_ < size_ ? 0 : size_;
    unpublished_ += count;
    prefetch_to_write(&slot(std::min(prefetch_distance, size_ - 1)));
  }
  [[nodiscard]] std::uint32_t unpublished() const noexcept { return unpublished_; }

  /// Shows the device every slot filled so far. When the transport has no room the slots stay
  /// unpublished.
  void publish() noexcept {
    if (unpublished_ != 0 && bell_.show(tail_)) {
      unpublished_ = 0;
    }
  }
  /// Wakes a device that does not look by itself; once a turn, for it takes a fence.
  /// @return whether it knows of all
  bool tell() noexcept { return unpublished_ == 0 && bell_.tell(); }
  /// Starts again at slot 0. @pre the device forgot the queue
  void rewind() noexcept {
    tail_ = unpublished_ = 0;
    bell_.rewind();
  }

 private:
  submission_entry* entries_ = nullptr;
  std::uint32_t size_ = 0;
  std::uint32_t tail_ = 0;
  std::uint32_t unpublished_ = 0;
  doorbell bell_;
};

/// What the device says of one command. Input: nothing in it is trusted.
struct completion_view {
  std::uint16_t command_id;
  std::uint16_t status;           // type << 8 | code
  const completion_entry* entry;  // for `command_specific`; valid until the next `publish`
};

/// Completions on their way from the device: it writes entries, we write the head.
class completion_ring {
 public:
  /// Lines are asked for while the two before them are read.
  static constexpr std::uint32_t entries_per_line = cache_line_bytes / sizeof(completion_entry);
  static constexpr std::uint32_t prefetch_distance = 2 * entries_per_line;
  completion_ring() noexcept = default;
  /// @param entries  zeroed memory the device writes, borrowed
  /// @param lag_max  entries that may be consumed without telling the device. With at least
  ///                 (commands outstanding + lag_max + 1) entries it never finds the ring full
  completion_ring(std::span<completion_entry> entries, doorbell bell,
                  std::uint32_t lag_max) noexcept
      : entries_{entries.data()},
        size_{static_cast<std::uint32_t>(entries.size())},
        lag_max_{lag_max},
        bell_{bell} {
    CHECK(size_ >= 2);
    CHECK(lag_max_ < size_);
  }

  [[nodiscard]] std::uint32_t size() const noexcept { return size_; }

  /// The next entry, if the device has written it. One load reads id, status and phase together, so
  /// a device that writes the entry again cannot show us half of each.
  [[nodiscard]] bool next(completion_view& out) noexcept {
    const completion_entry& entry = entries_[head_];
    const auto word = mmio_read<std::uint64_t>(&entry.sq_head);
    const auto status_and_phase = static_cast<std::uint16_t>(word >> 48U);
    if ((status_and_phase & completion_phase) != phase_) {
      return false;
    }
    dma_rmb();  // pairs with the device writing the phase last
    out = {.command_id = static_cast<std::uint16_t>(word >> 32U),
           .status = status_of(status_and_phase),
           .entry = &entry};
    if (head_ % entries_per_line == 0) {
      const std::uint32_t ahead = head_ + std::min(prefetch_distance, size_ - 1);
      prefetch_to_read(&entries_[ahead < size_ ? ahead : ahead - size_]);
    }
    ++unpublished_;
    if (++head_ == size_) {
      head_ = 0;
      phase_ ^= completion_phase;
    }
    return true;
  }

  /// Whether the device has to be told of consumed entries before it may find the ring full.
  [[nodiscard]] bool lags() const noexcept { return unpublished_ > lag_max_; }
  /// Gives consumed entries back to the device: once enough of them have gathered, or `all`.
  void publish(bool all) noexcept {
    if ((lags() || (all && unpublished_ != 0)) && bell_.show(head_)) {
      unpublished_ = 0;
    }
  }
  /// As of a submission ring. @return whether the device knows of all that it needs
  bool tell() noexcept { return bell_.tell() && !lags(); }
  /// Starts again at entry 0, with no entry written. @pre the device forgot the queue
  void rewind() noexcept {
    std::fill_n(entries_, size_, completion_entry{});
    head_ = unpublished_ = 0;
    phase_ = completion_phase;
    bell_.rewind();
  }

 private:
  completion_entry* entries_ = nullptr;
  std::uint32_t size_ = 0;
  std::uint32_t head_ = 0;
  std::uint32_t unpublished_ = 0;
  std::uint32_t lag_max_ = 0;
  std::uint16_t phase_ = completion_phase;
  doorbell bell_;
};

}  // namespace runnel::nvme
