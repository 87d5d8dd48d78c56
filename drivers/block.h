#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "mempool/base/clock.h"
#include "mempool/base/error.h"
#include "mempool/base/units.h"
#include "mempool/region.h"

// What every block device offers upward: ram, null, file, NVMe. It carries borrowed memory, so a
// guest's pages reach any backend without a copy. Devices return; they never call back.
namespace runnel {

/// What a request does. All but read, write and flush are optional, see `block_info::operations`.
enum class block_op : std::uint8_t {
  read,
  write,
  flush,         // writes that completed before it are durable when it completes
  compare,       // ends with `compare_failure` when the segments differ from the blocks
  write_zeroes,  // no segments; any number of blocks up to `blocks_max_without_data`
  deallocate,    // no segments; what the blocks hold is given up, see `deallocated_is_zero`
  verify,        // no segments; the device reads the blocks and moves nothing
};

namespace detail {
// Outside of the function: g++ 12 would build the table on the stack for every call.
inline constexpr std::array block_op_names{
    "a read", "a write", "a flush", "a compare", "a write of zeroes", "a deallocate", "a verify"};
}  // namespace detail

/// For reports; static.
[[nodiscard]] constexpr const char* name_of(block_op which) noexcept {
  return detail::block_op_names[static_cast<std::size_t>(which)];
}
/// Whether its segments hold exactly its blocks; the others have none.
[[nodiscard]] constexpr bool has_data(block_op which) noexcept {
  return which == block_op::read || which == block_op::write || which == block_op::compare;
}
/// Whether it changes what the blocks hold.
[[nodiscard]] constexpr bool changes_data(block_op which) noexcept {
  return which == block_op::write || which == block_op::write_zeroes ||
         which == block_op::deallocate;
}

/// A set of operations, a bit each.
class block_op_set {
 public:
  constexpr block_op_set(std::initializer_list<block_op> members) noexcept {
    for (const block_op each : members) {
      bits_ |= bit(each);
    }
  }
  constexpr void insert(block_op which) noexcept { bits_ |= bit(which); }
  [[nodiscard]] constexpr bool contains(block_op which) const noexcept {
    return (bits_ & bit(which)) != 0;
  }
  /// What both have.
  constexpr block_op_set& operator&=(const block_op_set& other) noexcept {
    bits_ &= other.bits_;
    return *this;
  }
  friend constexpr bool operator==(block_op_set, block_op_set) noexcept = default;

 private:
  static constexpr std::uint32_t bit(block_op which) noexcept {
    return std::uint32_t{1} << static_cast<unsigned>(which);
  }
  std::uint32_t bits_ = 0;
};

inline constexpr block_op_set all_block_operations{
    block_op::read,         block_op::write,      block_op::flush, block_op::compare,
    block_op::write_zeroes, block_op::deallocate, block_op::verify};

/// What one request without data may cover: what the 16 bits of an NVMe command count.
inline constexpr std::uint32_t blocks_max_without_data = 65536;

/// How a request ended, in NVMe's terms, so that neither our driver nor our target translates.
/// Values are (status code type << 8 | status code). @spec NVMe Base 2.0 §3.3.3.2.1
enum class block_status : std::uint16_t {
  success = 0x000,
  invalid_opcode = 0x001,
  invalid_field = 0x002,
  data_transfer_error = 0x004,
  internal_error = 0x006,
  aborted = 0x007,
  write_protected = 0x020,
  lba_out_of_range = 0x080,
  capacity_exceeded = 0x081,
  write_fault = 0x280,
  unrecovered_read_error = 0x281,
  compare_failure = 0x285,
  device_gone = 0x370,  // host pathing error: the request may or may not have been executed
};

/// Borrowed memory. Stays valid and untouched from submit until the completion.
struct segment {
  std::byte* address = nullptr;
  /// Bytes; any split that adds up to whole blocks. Each device says how many segments it takes and
  /// where a block may straddle two; what it does not take ends with `invalid_field`.
  std::size_t length = 0;
  const region* memory = nullptr;  // the region that holds it; devices with DMA translate by it
};

enum class block_state : std::uint8_t {
  pending,  // taken; a completion with this tag follows from poll()
  done,     // finished in place, `status` says how; no completion follows
  refused,  // no room now: poll, then submit it again; nothing was taken
};

struct block_request {
  std::uint64_t tag = 0;              // the caller's, handed back by the completion
  const segment* segments = nullptr;  // the array is needed during submit only
  std::uint32_t segment_count = 0;
  std::uint32_t blocks = 0;  // 0 with flush
  lba first{};
  block_op op = block_op::read;
  bool force_unit_access = false;               // write, write zeroes: durable before it completes
  block_state state = block_state::pending;     // set by submit
  block_status status = block_status::success;  // set by submit when `done`
};

struct block_completion {
  std::uint64_t tag = 0;
  block_status status = block_status::success;
};

/// One core's way to a device. @context owning core; no call allocates, waits or throws
class block_queue {
 public:
  virtual ~block_queue() = default;

  /// Starts requests in order and sets the state of each. After the first `refused` all the rest
  /// are refused. One call per burst.
  virtual void submit(std::span<block_request> requests) noexcept = 0;

  /// Finished requests, at most `out.size()`; 0 is normal.
  virtual std::size_t poll(std::span<block_completion> out) noexcept = 0;

  /// Publishes what was submitted (at most one doorbell or system call). Called once at the end of
  /// a turn; a queue may publish earlier by itself.
  virtual void flush() noexcept = 0;

  /// Before its core sleeps: `wake_fd` becomes readable once the next `poll` finds a completion.
  /// False: nothing tells, now or ever, and the core had better go on polling.
  [[nodiscard]] virtual bool arm() noexcept { return false; }
  /// Its core polls again: takes back what `arm` did, and what has made `wake_fd` readable.
  virtual void disarm() noexcept {}
  /// The same as long as the queue lives; -1: completions never come by themselves.
  [[nodiscard]] virtual int wake_fd() const noexcept { return -1; }

  /// Requests that may be in flight.
  [[nodiscard]] virtual std::uint32_t depth() const noexcept = 0;

  /// Payload that this core moved itself since the queue was made: to or from a disk in memory, or
  /// past a device that could not take the segments. For reports.
  [[nodiscard]] virtual std::uint64_t bytes_copied() const noexcept { return 0; }
};

struct block_info {
  std::string address;              // as the user gave it
  std::uint32_t block_bytes = 512;  // power of two
  std::uint64_t block_count = 0;
  std::uint32_t transfer_bytes_max = 0;  // what one request may carry; larger is refused by status
  std::uint32_t queue_depth_max = 0;
  std::uint32_t queue_count_max = 1;
  block_op_set operations{block_op::read, block_op::write, block_op::flush};  // others are refused
  bool deallocated_is_zero =
      false;                    // blocks read as zero after deallocate; else that, or as before
  bool kernel_brings = false;   // completions come by the kernel, see `source`
  bool volatile_cache = false;  // writes need flush or FUA to be durable
  bool device_reads_memory = false;  // true: regions must be mapped before use (DMA)
  std::string note;                  // what could not be had and was replaced; often empty
};

/// Names a started control operation. Its result is taken once.
enum class ticket : std::uint32_t {};

/// A block device after bring-up. Queues are made before the cores run.
class block_device {
 public:
  virtual ~block_device() = default;

  [[nodiscard]] virtual const block_info& info() const noexcept = 0;

  /// One more queue for one core. @error invalid (depth over the limit, named), no_memory
  /// @context control thread
  [[nodiscard]] virtual outcome<std::unique_ptr<block_queue>> make_queue(std::uint32_t depth) = 0;

  /// Makes a region reachable by the device. Done at once for devices without DMA.
  /// @error queue_full, device_gone
  [[nodiscard]] virtual result<ticket> map(const region& memory) noexcept;

  /// What to do about a map that failed so; empty: nothing is known.
  [[nodiscard]] virtual std::string map_hint(error, const region&) const { return {}; }

  /// Ends that; take() answers once the device cannot reach the region any more. No request may
  /// use it from here on.
  [[nodiscard]] virtual result<ticket> unmap(const region& memory) noexcept;

  /// The result of map or unmap: empty while under way.
  [[nodiscard]] virtual std::optional<result<>> take(ticket which) noexcept;

  /// Serves the device's control side (sockets, admin queue, deadlines); call when `event_fd` is
  /// readable and at the time it returned. @return the next deadline, `never` if none
  virtual instant advance(instant now) noexcept;

  /// What befell it that its users should know, in one clause: why it is gone, or that it was reset
  /// and why; empty: nothing did.
  [[nodiscard]] virtual std::string mishap() const { return {}; }

  /// Readable when `advance` has work; -1 when it never has.
  [[nodiscard]] virtual int event_fd() const noexcept;
};

inline result<ticket> block_device::map(const region&) noexcept {
  return ticket{0};
}
inline result<ticket> block_device::unmap(const region&) noexcept {
  return ticket{0};
}
inline std::optional<result<>> block_device::take(ticket) noexcept {
  return result<>{};
}
inline instant block_device::advance(instant) noexcept {
  return never;
}
inline int block_device::event_fd() const noexcept {
  return -1;
}

}  // namespace runnel
