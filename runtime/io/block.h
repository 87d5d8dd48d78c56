#pragma once

#include <array>
#include <concepts>
#include <coroutine>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "drivers/block.h"
#include "mempool/base/clock.h"
#include "mempool/base/error.h"
#include "mempool/pool.h"
#include "runtime/gate.h"
#include "runtime/io/queue_wake.h"
#include "runtime/reactor.h"

// What applications await. Below it a driver's queue is polled once per turn and published once
// per turn. A request to an idle device starts at once, and when it finishes in place its task
// goes straight on; while others are in flight requests gather into bursts, because a call of a
// driver through its interface is an indirect branch, and those are dear.
namespace runnel::io {

class disk;
struct refused_tag;

/// When a write has completed: `cached` writes are durable after a flush.
enum class durability : std::uint8_t { cached, durable };

/// One request of a task; made by `disk` and awaited at once. Lives in the task's frame.
class block_wait : private list_hook<refused_tag> {
 public:
  [[nodiscard]] bool await_ready() const noexcept { return false; }
  /// @return whether the task waits
  template <std::derived_from<promise_base> Promise>
  bool await_suspend(std::coroutine_handle<Promise> task) noexcept;

 protected:
  block_wait(disk& owner, block_op op, lba first, durability wanted) noexcept;
  ~block_wait() = default;
  [[nodiscard]] result<> ended() const noexcept;

  block_request request_;
  segment data_;  // when there is just one
  disk& disk_;
  buffer* owned_ = nullptr;  // what moves to the slot when the wait ends before the device
  promise_base* task_ = nullptr;
  errc ended_early_ = errc::ok;  // timed_out or cancelled: the device has not answered
  std::uint32_t expires_ = 0;    // in the disk's ticks

 private:
  friend class disk;
  template <class T, class Tag>
  friend class runnel::intrusive_list;

  void go_on_next_turn() noexcept;
};

/// A request on memory that somebody else owns, or on none.
class [[nodiscard]] borrowed_io final : public block_wait {
 public:
  borrowed_io(disk& owner, block_op op, lba first, const segment& data, durability wanted) noexcept;
  borrowed_io(disk& owner, block_op op, lba first, std::span<const segment> data,
              durability wanted) noexcept;
  /// An operation without data.
  borrowed_io(disk& owner, block_op op, lba first, std::uint32_t blocks,
              durability wanted) noexcept;
  [[nodiscard]] result<> await_resume() const noexcept { return ended(); }
};

/// A request that owns its memory and hands it back on success.
class [[nodiscard]] owned_io final : public block_wait {
 public:
  owned_io(disk& owner, block_op op, lba first, buffer&& data, durability wanted) noexcept;
  [[nodiscard]] result<buffer> await_resume() noexcept;

 private:
  buffer buffer_;
};

struct disk_options {
  /// Of every request; applied to within 200 ms, never early. Long enough for a driver to abort a
  /// command that is late, and to reset its device.
  nanoseconds deadline{60'000'000'000};
};

/// A block device as the tasks of one core see it.
///
/// @error of every request: bad_status (detail is the device's status), device_gone, timed_out,
///        cancelled. After the last two the device may still be working on the request: an owned
///        buffer goes home only when it is done; borrowed memory must outlive the disk.
/// @context one core; a request allocates nothing and makes no system call of its own
class disk final {
 public:
  static constexpr nanoseconds deadline_period{100'000'000};
  static constexpr std::size_t completions_per_turn = 32;
  /// Requests that gather before they are submitted, else at the end of the turn: all that the
  /// completions of a turn give rise to. A driver that meets another core's cache lines then waits
  /// with nothing but its own few stores behind them.
  static constexpr std::uint32_t burst_max = 32;

  /// @context control thread; `attach` follows on the core
  disk(reactor& core, std::unique_ptr<block_queue> queue, const block_info& info,
       const disk_options& options);
  disk(const disk&) = delete;
  disk& operator=(const disk&) = delete;
  /// Lets memory go home that the device had still in reach: only after the device was closed, and
  /// before the pools go. @pre detached
  ~disk();

  /// Begins polling.
  void attach() noexcept;
  /// Ends polling for good and deletes the queue, on the core that it belongs to. @pre nobody waits
  void detach() noexcept;

  /// Fills a whole buffer from the blocks beginning at `first`. @return the buffer
  [[nodiscard]] owned_io read(lba first, buffer&& into) noexcept {
    return owned_io{*this, block_op::read, first, std::move(into), durability::cached};
  }
  /// Writes a whole buffer. @return the buffer; dropped, it goes back to its pool
  [[nodiscard]] owned_io write(lba first, buffer&& from,
                               durability wanted = durability::cached) noexcept {
    return owned_io{*this, block_op::write, first, std::move(from), wanted};
  }

  /// The same on borrowed memory, a whole number of blocks. @pre it outlives the disk
  [[nodiscard]] borrowed_io read(lba first, std::span<std::byte> into,
                                 const region& memory) noexcept {
    return borrowed_io{*this, block_op::read, first, segment{into.data(), into.size(), &memory},
                       durability::cached};
  }
  [[nodiscard]] borrowed_io write(lba first, std::span<std::byte> from, const region& memory,
                                  durability wanted = durability::cached) noexcept {
    return borrowed_io{*this, block_op::write, first, segment{from.data(), from.size(), &memory},
                       wanted};
  }
  /// Scattered memory; the list itself is borrowed until the request ends.
  [[nodiscard]] borrowed_io read(lba first, std::span<const segment> into) noexcept {
    return borrowed_io{*this, block_op::read, first, into, durability::cached};
  }
  [[nodiscard]] borrowed_io write(lba first, std::span<const segment> from,
                                  durability wanted = durability::cached) noexcept {
    return borrowed_io{*this, block_op::write, first, from, wanted};
  }

  // What a device may have, see `info().operations`; it ends with bad_status and `invalid_opcode`
  // where the device has it not.

  /// Compares a whole buffer with the blocks beginning at `first`. @return the buffer, if they are
  /// equal. @error bad_status with `compare_failure`: they are not
  [[nodiscard]] owned_io compare(lba first, buffer&& with) noexcept {
    return owned_io{*this, block_op::compare, first, std::move(with), durability::cached};
  }
  /// The same on borrowed memory. @pre it outlives the disk
  [[nodiscard]] borrowed_io compare(lba first, std::span<std::byte> with,
                                    const region& memory) noexcept {
    return borrowed_io{*this, block_op::compare, first, segment{with.data(), with.size(), &memory},
                       durability::cached};
  }
  /// Makes blocks read as zero. @param blocks  as those below, 1 to `blocks_max_without_data`
  [[nodiscard]] borrowed_io write_zeroes(lba first, std::uint32_t blocks,
                                         durability wanted = durability::cached) noexcept {
    return borrowed_io{*this, block_op::write_zeroes, first, blocks, wanted};
  }
  /// Gives up what blocks hold: from then on they read as zero, or as before.
  [[nodiscard]] borrowed_io deallocate(lba first, std::uint32_t blocks) noexcept {
    return borrowed_io{*this, block_op::deallocate, first, blocks, durability::cached};
  }
  /// Lets the device read blocks, to see whether it can.
  [[nodiscard]] borrowed_io verify(lba first, std::uint32_t blocks) noexcept {
    return borrowed_io{*this, block_op::verify, first, blocks, durability::cached};
  }

  /// Makes every write that completed before it durable.
  [[nodiscard]] borrowed_io flush() noexcept {
    return borrowed_io{*this, block_op::flush, lba{0}, std::span<const segment>{},
                       durability::cached};
  }

  /// Deletes the queue, if detach has not. @pre it was never used
  void drop_queue() noexcept { queue_.reset(); }

  [[nodiscard]] const block_info& info() const noexcept { return info_; }
  [[nodiscard]] std::uint32_t blocks_in(std::size_t bytes) const noexcept {
    return static_cast<std::uint32_t>(bytes >> block_shift_);
  }
  [[nodiscard]] std::uint32_t depth() const noexcept { return depth_; }
  /// Requests at the device, abandoned ones included.
  [[nodiscard]] std::uint32_t in_flight() const noexcept { return in_flight_; }
  /// Requests at the device whose task did not wait for the end.
  [[nodiscard]] std::uint32_t orphans() const noexcept { return orphan_count_; }

 private:
  friend class block_wait;
  static constexpr std::uint32_t no_slot = ~std::uint32_t{0};

  /// What a request at the device leads back to: a quarter of a cache line. Its number is the tag.
  struct slot {
    block_wait* wait = nullptr;  // null: free, or abandoned
    std::uint32_t next_free = no_slot;
    std::uint32_t expires = 0;
  };

  [[nodiscard]] bool start(block_wait& wait) noexcept;
  [[nodiscard]] bool start_alone(block_wait& wait) noexcept;
  void gather(block_wait& wait) noexcept;
  void submit_burst() noexcept;
  [[nodiscard]] bool submit(block_wait& wait) noexcept;
  [[nodiscard]] std::uint32_t take_slot(block_wait& wait) noexcept;
  void free_slot(std::uint32_t index) noexcept;
  void let_wait_for_room(block_wait& wait) noexcept;
  void publish() noexcept;
  void complete(const block_completion& done) noexcept;
  void complete_orphan(std::uint32_t index) noexcept;
  std::uint32_t poll() noexcept;
  std::uint32_t poll_queue() noexcept;
  std::uint32_t retry_refused() noexcept;
  void abandon(slot& which, errc why) noexcept;
  void end_refused(block_wait& wait, errc why) noexcept;
  void apply_deadlines() noexcept;
  void cancel_waits(const gate& owner) noexcept;

  struct deadline_timer : timer {
    explicit deadline_timer(disk& which) noexcept : timer{on_deadline}, owner{which} {}
    static void on_deadline(timer& self) noexcept;
    disk& owner;
  };

  reactor& core_;
  block_queue* polled_;
  std::vector<slot> slots_;
  std::uint32_t free_ = no_slot;  // stack of free slots, so the next one is warm
  std::uint32_t in_flight_ = 0;
  std::uint32_t gathered_ = 0;  // of those, not yet submitted: none but while tasks run
  std::uint32_t tick_ = 0;      // deadline periods since the start
  std::uint32_t ticks_per_request_;
  unsigned block_shift_;
  publisher publisher_;
  intrusive_list<block_wait, refused_tag> refused_;  // waits for room, first come first served
  cancellable cancellable_;
  deadline_timer deadlines_;
  const block_info& info_;
  std::uint32_t depth_;
  std::uint32_t orphan_count_ = 0;
  // Kept to spare their initialisation.
  std::array<block_request, burst_max> burst_;
  std::array<block_completion, completions_per_turn> done_;
  std::vector<buffer> orphans_;  // by slot: memory the device may still reach
  std::unique_ptr<block_queue> queue_;
  queue_wake wake_;
};

inline block_wait::block_wait(disk& owner, block_op op, lba first, durability wanted) noexcept
    : disk_{owner} {
  request_.op = op;
  request_.first = first;
  request_.force_unit_access = wanted == durability::durable;
}

template <std::derived_from<promise_base> Promise>
inline bool block_wait::await_suspend(std::coroutine_handle<Promise> task) noexcept {
  task_ = &task.promise();
  const bool waits = disk_.start(*this);
  if (waits) {
    task_->waits_for = name_of(request_.op);
  }
  return waits;
}

inline result<> block_wait::ended() const noexcept {
  if (ended_early_ == errc::ok && request_.status == block_status::success) [[likely]] {
    return {};
  }
  if (ended_early_ != errc::ok) {
    return fail(ended_early_);
  }
  return request_.status == block_status::device_gone
             ? fail(errc::device_gone)
             : fail(errc::bad_status, static_cast<std::uint32_t>(request_.status));
}

inline borrowed_io::borrowed_io(disk& owner, block_op op, lba first, const segment& data,
                                durability wanted) noexcept
    : block_wait{owner, op, first, wanted} {
  data_ = data;
  request_.segments = &data_;
  request_.segment_count = 1;
  request_.blocks = owner.blocks_in(data.length);
}

inline borrowed_io::borrowed_io(disk& owner, block_op op, lba first, std::uint32_t blocks,
                                durability wanted) noexcept
    : block_wait{owner, op, first, wanted} {
  request_.blocks = blocks;
}

inline owned_io::owned_io(disk& owner, block_op op, lba first, buffer&& data,
                          durability wanted) noexcept
    : block_wait{owner, op, first, wanted}, buffer_{std::move(data)} {
  data_ = segment{buffer_.data(), buffer_.size(), &buffer_.memory()};
  request_.segments = &data_;
  request_.segment_count = 1;
  request_.blocks = owner.blocks_in(data_.length);
  owned_ = &buffer_;
}

inline result<buffer> owned_io::await_resume() noexcept {
  const result<> how = ended();
  if (!how) {
    return std::unexpected{how.error()};
  }
  return std::move(buffer_);
}

/// @return whether the task waits
inline bool disk::start(block_wait& wait) noexcept {
  if (in_flight_ == 0 && refused_.empty()) {
    return start_alone(wait);
  }
  if (in_flight_ < depth_ && refused_.empty()) [[likely]] {
    gather(wait);
  } else {
    let_wait_for_room(wait);
  }
  return true;
}

/// @return the slot's number, which is the request's tag. @pre one is free
inline std::uint32_t disk::take_slot(block_wait& wait) noexcept {
  const std::uint32_t index = free_;
  slot& taken = slots_[index];
  free_ = taken.next_free;
  taken.wait = &wait;
  taken.expires = tick_ + ticks_per_request_;
  ++in_flight_;
  return index;
}

/// Field by field, out of registers: a copy of the whole would load more at once than was stored at
/// once, and so wait until those stores have left the core, behind any that wait for their lines.
inline void disk::gather(block_wait& wait) noexcept {
  const block_request& asked = wait.request_;
  block_request& one = burst_[gathered_];
  one.tag = take_slot(wait);
  one.segments = asked.segments;
  one.segment_count = asked.segment_count;
  one.blocks = asked.blocks;
  one.first = asked.first;
  one.op = asked.op;
  one.force_unit_access = asked.force_unit_access;
  core_.mark(publisher_);
  if (++gathered_ == burst_max) {
    submit_burst();
  }
}

inline void disk::free_slot(std::uint32_t index) noexcept {
  slots_[index].wait = nullptr;
  slots_[index].next_free = std::exchange(free_, index);
  --in_flight_;
}

}  // namespace runnel::io
