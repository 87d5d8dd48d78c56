#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "drivers/nvme/identify.h"
#include "drivers/nvme/spec.h"
#include "mempool/base/bits.h"
#include "mempool/base/units.h"

// Everything a served controller is, apart from commands in flight (there are none when it is
// saved). Live upgrade and migration move these bytes; whatever else the code keeps can be derived
// from them, the subsystem and the host's memory.
namespace runnel::target {

inline constexpr std::uint16_t queues_max = 128;  // the admin queue is number 0
inline constexpr std::uint16_t queue_entries_max = 1024;
inline constexpr std::size_t event_requests_max = 4;   // asynchronous event requests held
inline constexpr std::size_t error_entries_max = 16;   // of the error log
inline constexpr std::size_t aborted_entries_max = 4;  // of one queue
inline constexpr std::size_t features_max = 12;        // feature ids 01h..0Bh

// A line each: neighbours are served by different cores.

struct alignas(cache_line_bytes) submission_queue_state {
  iova base{};
  std::uint16_t entries = 0;  // 0: the queue does not exist
  std::uint16_t head = 0;     // next entry to fetch
  std::uint16_t completion_queue = 0;
  std::uint16_t aborted_count = 0;
  std::array<std::uint16_t, aborted_entries_max> aborted{};  // slots that are to be passed over
};

struct alignas(cache_line_bytes) completion_queue_state {
  iova base{};
  std::uint16_t entries = 0;  // 0: the queue does not exist
  std::uint16_t tail = 0;     // next entry to write
  std::uint16_t head = 0;     // first entry that the host may not have read yet
  std::uint16_t phase = 1;    // of the next entry
  std::uint16_t vector = 0;
  std::uint16_t interrupts = 0;  // 1: the host wants them
};

/// The registers that keep a value; the others follow from the limits. @spec NVMe Base 2.0 §3.1.3
struct register_state {
  std::uint64_t admin_sq = 0;  // ASQ
  std::uint64_t admin_cq = 0;  // ACQ
  std::uint32_t interrupt_mask = 0;
  std::uint32_t configuration = 0;  // CC
  std::uint32_t status = 0;         // CSTS
  std::uint32_t admin_queues = 0;   // AQA
};

struct timestamp_state {
  std::uint64_t milliseconds = 0;         // what it was
  std::uint64_t set_at_milliseconds = 0;  // at this time of our clock
  std::uint64_t by_host = 0;              // 1: the host set it; 0: a reset
};

struct feature_state {
  std::array<std::uint32_t, features_max> value{};           // by feature id
  std::array<std::uint64_t, queues_max / 64> uncoalesced{};  // interrupt vectors, one bit each
  timestamp_state timestamp;
  std::array<std::uint8_t, 16> host_identifier{};  // all zero: not told
};

struct event_state {
  std::uint16_t requests = 0;
  std::array<std::uint16_t, event_requests_max> request_ids{};
  std::uint32_t masked = 0;                   // by event type: told, and its log not yet read
  std::uint32_t pending = 0;                  // by event type: not told yet
  std::array<std::uint8_t, 3> information{};  // of pending events, by type
};

/// Namespaces that changed since the host read their log.
struct changed_state {
  std::array<std::uint32_t, 16> ids{};
  std::uint16_t count = 0;
  bool too_many = false;
};

/// Pages of the host's memory that stand in for the doorbells of I/O queues.
struct shadow_state {
  iova doorbells{};
  iova event_indices{};
  bool in_use = false;
};

struct error_state {
  std::uint64_t count = 0;  // since power-on; error number n is in entry (n - 1) % max
  std::array<nvme::error_log_entry, error_entries_max> entries{};
};

struct controller_state {
  register_state registers;
  feature_state features;
  error_state errors;
  std::uint16_t io_queues = 0;  // what the host may create; fixed by the feature number_of_queues
  shadow_state shadow;
  bool memory_unshared = false;  // what the host writes into its memory does not come here
  event_state events;
  changed_state changed;
  std::array<submission_queue_state, queues_max> submission_queues{};
  std::array<completion_queue_state, queues_max> completion_queues{};
};
static_assert(std::is_trivially_copyable_v<controller_state>);

}  // namespace runnel::target
