#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "drivers/nvme/spec.h"
#include "mempool/base/units.h"

// Everything a served controller is, apart from commands in flight (there are none when it is
// saved). Live upgrade and migration move these bytes; whatever else the code keeps can be derived
// from them, the subsystem and the host's memory.
namespace runnel::target {

inline constexpr std::uint16_t queues_max = 128;  // the admin queue is number 0
inline constexpr std::uint16_t queue_entries_max = 1024;
inline constexpr std::size_t event_requests_max = 4;  // asynchronous event requests held
inline constexpr std::size_t features_max = 12;       // feature ids 01h..0Bh

struct submission_queue_state {
  iova base{};
  std::uint16_t entries = 0;  // 0: the queue does not exist
  std::uint16_t head = 0;     // next entry to fetch
  std::uint16_t completion_queue = 0;
};

struct completion_queue_state {
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

struct feature_state {
  std::array<std::uint32_t, features_max> value{};           // by feature id
  std::array<std::uint64_t, queues_max / 64> uncoalesced{};  // interrupt vectors, one bit each
};

struct controller_state {
  register_state registers;
  feature_state features;
  std::uint16_t io_queues = 0;  // what the host may create; fixed by the feature number_of_queues
  std::uint16_t event_requests = 0;
  std::array<std::uint16_t, event_requests_max> event_request_ids{};
  std::uint32_t events_masked = 0;  // by event type: reported, and its log not yet read
  std::array<submission_queue_state, queues_max> submission_queues{};
  std::array<completion_queue_state, queues_max> completion_queues{};
};
static_assert(std::is_trivially_copyable_v<controller_state>);

}  // namespace runnel::target
