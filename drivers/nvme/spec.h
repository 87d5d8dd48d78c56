#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "drivers/block.h"
#include "mempool/base/bits.h"

// NVMe as driver and served controller both see it: queue entries, registers, opcodes, status.
// Section numbers are of NVM Express Base 2.0 unless said otherwise; NVM is the NVM Command
// Set 1.0. Everything on the wire is little-endian, and so is every machine that we build for.
// Fields keep the mnemonics of the specification. "0's based" fields hold one less than the count
// they mean.
namespace runnel::nvme {

/// @spec Figure 88. An I/O or admin command, written by the host.
struct submission_entry {
  std::uint8_t opcode;
  std::uint8_t flags;  // 1:0 fused, 7:6 0 = PRP
  std::uint16_t command_id;
  std::uint32_t nsid;
  std::uint32_t cdw2;
  std::uint32_t cdw3;
  std::uint64_t metadata;
  std::uint64_t prp1;
  std::uint64_t prp2;  // second page, or the address of a PRP list
  std::uint32_t cdw10;
  std::uint32_t cdw11;
  std::uint32_t cdw12;
  std::uint32_t cdw13;
  std::uint32_t cdw14;
  std::uint32_t cdw15;
};
static_assert(sizeof(submission_entry) == 64);
static_assert(offsetof(submission_entry, command_id) == 2);
static_assert(offsetof(submission_entry, nsid) == 4);
static_assert(offsetof(submission_entry, metadata) == 16);
static_assert(offsetof(submission_entry, prp1) == 24);
static_assert(offsetof(submission_entry, prp2) == 32);
static_assert(offsetof(submission_entry, cdw10) == 40);
static_assert(offsetof(submission_entry, cdw15) == 60);
static_assert(std::is_trivially_copyable_v<submission_entry>);

inline constexpr std::uint8_t submission_flags_fused = 0x03;
inline constexpr std::uint8_t submission_flags_sgl = 0xc0;

/// @spec §3.3.3.2. How a command ended, written by the controller; the last 16 bits go last.
struct completion_entry {
  std::uint64_t command_specific;
  std::uint16_t sq_head;  // next submission slot the controller will read
  std::uint16_t sq_id;
  std::uint16_t command_id;
  std::uint16_t status_and_phase;  // bit 0 phase, 8:1 code, 11:9 type, 14 more, 15 do not retry
};
static_assert(sizeof(completion_entry) == 16);
static_assert(offsetof(completion_entry, sq_head) == 8);
static_assert(offsetof(completion_entry, command_id) == 12);
static_assert(offsetof(completion_entry, status_and_phase) == 14);
static_assert(std::is_trivially_copyable_v<completion_entry>);

inline constexpr std::uint16_t completion_phase = 0x0001;
inline constexpr std::uint16_t completion_do_not_retry = 0x8000;

/// Status code type << 8 | status code: what `block_status` holds.
[[nodiscard]] constexpr std::uint16_t status_of(std::uint16_t status_and_phase) noexcept {
  return (status_and_phase >> 1U) & 0x7ffU;
}

/// @spec §3.3.3.2.1. Numbered as `block_status`, which carries those a block device can end with.
enum class status_code : std::uint16_t {
  success = 0x000,
  invalid_opcode = 0x001,
  invalid_field = 0x002,
  command_id_conflict = 0x003,
  data_transfer_error = 0x004,
  power_loss_abort = 0x005,
  internal_error = 0x006,
  abort_requested = 0x007,
  sq_deleted = 0x008,
  fused_failed = 0x009,
  fused_missing = 0x00a,
  invalid_namespace_or_format = 0x00b,
  command_sequence_error = 0x00c,
  invalid_sgl_descriptor = 0x00d,
  prp_offset_invalid = 0x013,
  operation_denied = 0x015,
  keep_alive_timeout_invalid = 0x01a,
  namespace_write_protected = 0x020,
  lba_out_of_range = 0x080,
  capacity_exceeded = 0x081,
  namespace_not_ready = 0x082,

  cq_invalid = 0x100,
  invalid_queue_id = 0x101,
  invalid_queue_size = 0x102,
  abort_limit_exceeded = 0x103,
  aer_limit_exceeded = 0x105,
  invalid_firmware_slot = 0x106,
  invalid_interrupt_vector = 0x108,
  invalid_log_page = 0x109,
  invalid_format = 0x10a,
  invalid_queue_deletion = 0x10c,
  feature_not_saveable = 0x10d,
  feature_not_changeable = 0x10e,
  feature_not_namespace_specific = 0x10f,
  invalid_protection_information = 0x181,

  write_fault = 0x280,
  unrecovered_read_error = 0x281,
  compare_failure = 0x285,

  host_pathing_error = 0x370,
  aborted_by_host = 0x371,
};

[[nodiscard]] constexpr bool same(status_code code, block_status status) noexcept {
  return static_cast<std::uint16_t>(code) == static_cast<std::uint16_t>(status);
}
static_assert(same(status_code::success, block_status::success));
static_assert(same(status_code::invalid_opcode, block_status::invalid_opcode));
static_assert(same(status_code::invalid_field, block_status::invalid_field));
static_assert(same(status_code::data_transfer_error, block_status::data_transfer_error));
static_assert(same(status_code::internal_error, block_status::internal_error));
static_assert(same(status_code::abort_requested, block_status::aborted));
static_assert(same(status_code::namespace_write_protected, block_status::write_protected));
static_assert(same(status_code::lba_out_of_range, block_status::lba_out_of_range));
static_assert(same(status_code::capacity_exceeded, block_status::capacity_exceeded));
static_assert(same(status_code::write_fault, block_status::write_fault));
static_assert(same(status_code::unrecovered_read_error, block_status::unrecovered_read_error));
static_assert(same(status_code::compare_failure, block_status::compare_failure));
static_assert(same(status_code::host_pathing_error, block_status::device_gone));

/// The last word of a completion.
[[nodiscard]] constexpr std::uint16_t status_word(status_code code, std::uint16_t phase,
                                                  bool do_not_retry = false) noexcept {
  return static_cast<std::uint16_t>((static_cast<unsigned>(code) << 1U) | phase |
                                    (do_not_retry ? completion_do_not_retry : 0U));
}

/// @spec Figure 138
enum class admin_opcode : std::uint8_t {
  delete_io_sq = 0x00,
  create_io_sq = 0x01,
  get_log_page = 0x02,
  delete_io_cq = 0x04,
  create_io_cq = 0x05,
  identify = 0x06,
  abort = 0x08,
  set_features = 0x09,
  get_features = 0x0a,
  async_event_request = 0x0c,
  namespace_management = 0x0d,
  firmware_commit = 0x10,
  firmware_download = 0x11,
  device_self_test = 0x14,
  namespace_attachment = 0x15,
  keep_alive = 0x18,
  directive_send = 0x19,
  directive_receive = 0x1a,
  doorbell_buffer_config = 0x7c,
  format_nvm = 0x80,
  security_send = 0x81,
  security_receive = 0x82,
  sanitize = 0x84,
};

/// @spec NVM Figure 11
enum class io_opcode : std::uint8_t {
  flush = 0x00,
  write = 0x01,
  read = 0x02,
  write_uncorrectable = 0x04,
  compare = 0x05,
  write_zeroes = 0x08,
  dataset_management = 0x09,
  verify = 0x0c,
  copy = 0x19,
};

/// Offsets in BAR0. @spec §3.1.3
enum class reg : std::uint32_t {
  cap = 0x00,  // 8 bytes
  vs = 0x08,
  intms = 0x0c,
  intmc = 0x10,
  cc = 0x14,
  csts = 0x1c,
  nssr = 0x20,
  aqa = 0x24,
  asq = 0x28,  // 8 bytes
  acq = 0x30,  // 8 bytes
  cmbloc = 0x38,
  cmbsz = 0x3c,
  bpinfo = 0x40,
  crto = 0x68,
  pmrcap = 0xe00,
  doorbells = 0x1000,
};

/// What VS reads: major << 16 | minor << 8 | tertiary.
[[nodiscard]] constexpr std::uint32_t version(std::uint32_t major, std::uint32_t minor) noexcept {
  return major << 16U | minor << 8U;
}

/// Controller capabilities. @spec §3.1.3.1
struct capabilities {
  std::uint64_t raw = 0;

  /// Entries of the largest I/O queue; the register is 0's based.
  [[nodiscard]] constexpr std::uint32_t queue_entries_max() const noexcept {
    return static_cast<std::uint32_t>(bit_field(raw, 0, 16)) + 1;
  }
  [[nodiscard]] constexpr bool contiguous_queues_required() const noexcept {
    return bit_field(raw, 16, 1) != 0;
  }
  /// Longest wait for CSTS.RDY to follow CC.EN, in milliseconds; the register counts 500 ms.
  [[nodiscard]] constexpr std::uint32_t ready_timeout_ms() const noexcept {
    return static_cast<std::uint32_t>(bit_field(raw, 24, 8)) * 500;
  }
  [[nodiscard]] constexpr std::uint32_t doorbell_stride_bytes() const noexcept {
    return 4U << bit_field(raw, 32, 4);
  }
  [[nodiscard]] constexpr bool nvm_command_set() const noexcept {
    return bit_field(raw, 37, 1) != 0;
  }
  [[nodiscard]] constexpr bool io_command_sets() const noexcept {
    return bit_field(raw, 43, 1) != 0;
  }
  [[nodiscard]] constexpr std::uint64_t page_bytes_min() const noexcept {
    return std::uint64_t{4096} << bit_field(raw, 48, 4);
  }
  [[nodiscard]] constexpr std::uint64_t page_bytes_max() const noexcept {
    return std::uint64_t{4096} << bit_field(raw, 52, 4);
  }
  /// The controller states its ready times in CRTO. @spec §3.1.3.1 CRMS
  [[nodiscard]] constexpr bool ready_modes() const noexcept { return bit_field(raw, 59, 2) != 0; }
};

/// What a device that is no longer there reads as.
inline constexpr std::uint64_t all_ones = ~std::uint64_t{0};

/// Controller configuration. @spec §3.1.3.5
inline constexpr std::uint32_t cc_enable = 1U << 0U;
inline constexpr std::uint32_t cc_shutdown_normal = 1U << 14U;
inline constexpr std::uint32_t cc_shutdown_mask = 3U << 14U;

struct configuration {
  std::uint32_t raw = 0;

  [[nodiscard]] constexpr bool enable() const noexcept { return (raw & cc_enable) != 0; }
  [[nodiscard]] constexpr std::uint32_t command_set() const noexcept { return raw >> 4U & 7U; }
  [[nodiscard]] constexpr std::uint64_t page_bytes() const noexcept {
    return std::uint64_t{4096} << (raw >> 7U & 15U);
  }
  [[nodiscard]] constexpr std::uint32_t arbitration() const noexcept { return raw >> 11U & 7U; }
  [[nodiscard]] constexpr std::uint32_t shutdown() const noexcept { return raw >> 14U & 3U; }
  [[nodiscard]] constexpr std::uint32_t sq_entry_bytes() const noexcept {
    return 1U << (raw >> 16U & 15U);
  }
  [[nodiscard]] constexpr std::uint32_t cq_entry_bytes() const noexcept {
    return 1U << (raw >> 20U & 15U);
  }
};

/// CC for the NVM command set, round robin, entries of 64 and 16 bytes, enabled.
/// @param page_bytes  power of two from 4096, within CAP.MPSMIN..MPSMAX
[[nodiscard]] constexpr std::uint32_t enabled_configuration(std::uint64_t page_bytes) noexcept {
  const auto mps = static_cast<std::uint32_t>(std::countr_zero(page_bytes)) - 12U;
  return cc_enable | mps << 7U | 6U << 16U | 4U << 20U;
}

/// Controller status. @spec §3.1.3.6
inline constexpr std::uint32_t csts_ready = 1U << 0U;
inline constexpr std::uint32_t csts_fatal = 1U << 1U;
inline constexpr std::uint32_t csts_shutdown_occurring = 1U << 2U;
inline constexpr std::uint32_t csts_shutdown_complete = 2U << 2U;
inline constexpr std::uint32_t csts_shutdown_mask = 3U << 2U;

/// Admin queue attributes. @spec §3.1.3.8 @param sq_entries, cq_entries  2..4096, stored 0's based
[[nodiscard]] constexpr std::uint32_t admin_queue_attributes(std::uint32_t sq_entries,
                                                             std::uint32_t cq_entries) noexcept {
  return (sq_entries - 1) | (cq_entries - 1) << 16U;
}
inline constexpr std::uint32_t admin_queue_entries_max = 4096;

/// Where in BAR0 the tail doorbell of a submission queue is. @spec Transport PCIe 1.0 §3.1.2.1
[[nodiscard]] constexpr std::uint64_t sq_doorbell_offset(std::uint32_t queue,
                                                         std::uint32_t stride_bytes) noexcept {
  return static_cast<std::uint64_t>(reg::doorbells) + std::uint64_t{2} * queue * stride_bytes;
}
/// Where the head doorbell of a completion queue is.
[[nodiscard]] constexpr std::uint64_t cq_doorbell_offset(std::uint32_t queue,
                                                         std::uint32_t stride_bytes) noexcept {
  return sq_doorbell_offset(queue, stride_bytes) + stride_bytes;
}

inline constexpr std::uint32_t io_queue_entries_max = 65536;
inline constexpr std::uint32_t nsid_all = 0xffff'ffff;

// Command dwords.

/// Create I/O queue, dword 10: entries 0's based << 16 | queue. @spec §5.4, §5.5
[[nodiscard]] constexpr std::uint32_t create_queue_cdw10(std::uint16_t queue,
                                                         std::uint32_t entries) noexcept {
  return (entries - 1) << 16U | queue;
}
inline constexpr std::uint32_t create_queue_contiguous = 1U << 0U;  // dword 11, both kinds
inline constexpr std::uint32_t create_cq_interrupts = 1U << 1U;     // dword 11; vector in 31:16

/// @spec NVM Figure 49, 52: dword 12 of read and write. Blocks are 0's based in 15:0.
inline constexpr std::uint32_t io_force_unit_access = 1U << 30U;
inline constexpr std::uint32_t io_limited_retry = 1U << 31U;
inline constexpr std::uint32_t io_protection_mask = 0xfU << 26U;
inline constexpr std::uint32_t io_blocks_max = 65536;

/// @spec §5.16.1 figure 273. CNS in dword 10 bits 7:0, controller id in 31:16.
enum class identify_cns : std::uint8_t {
  namespace_nvm = 0x00,
  controller = 0x01,
  active_namespaces = 0x02,
  namespace_descriptors = 0x03,
  nvm_set_list = 0x04,
  namespace_command_set = 0x05,
  controller_command_set = 0x06,
  active_namespaces_command_set = 0x07,
  namespace_independent = 0x08,
  allocated_namespaces = 0x10,
  allocated_namespace = 0x11,
  attached_controllers = 0x12,
  controllers = 0x13,
  command_sets = 0x1c,
};

/// @spec §5.16.1 figure 202. In dword 10 bits 7:0; dwords wanted, 0's based, in 31:16 and dword 11
/// bits 15:0; byte offset in dwords 12 and 13.
enum class log_page : std::uint8_t {
  supported_pages = 0x00,
  error_information = 0x01,
  health_information = 0x02,
  firmware_slots = 0x03,
  changed_namespaces = 0x04,
  commands_and_effects = 0x05,
  device_self_test = 0x06,
};
inline constexpr std::uint32_t log_retain_event = 1U << 15U;

/// @spec §5.27.1 figure 317. In dword 10 bits 7:0.
enum class feature : std::uint8_t {
  arbitration = 0x01,
  power_management = 0x02,
  lba_range_type = 0x03,
  temperature_threshold = 0x04,
  error_recovery = 0x05,
  volatile_write_cache = 0x06,
  number_of_queues = 0x07,
  interrupt_coalescing = 0x08,
  interrupt_vector = 0x09,
  write_atomicity = 0x0a,
  async_event_configuration = 0x0b,
  autonomous_power_state = 0x0c,
  host_memory_buffer = 0x0d,
  timestamp = 0x0e,
  keep_alive_timer = 0x0f,
  software_progress = 0x80,
  host_identifier = 0x81,
};
inline constexpr std::uint32_t feature_save = 1U << 31U;  // set features, dword 10

/// @spec §5.10.1 get features, dword 10 bits 10:8
enum class feature_select : std::uint8_t { current = 0, initial = 1, saved = 2, supported = 3 };

/// Number of queues: both counts 0's based, submission low, in command and answer alike.
[[nodiscard]] constexpr std::uint32_t number_of_queues(std::uint32_t sq_count,
                                                       std::uint32_t cq_count) noexcept {
  return (sq_count - 1) | (cq_count - 1) << 16U;
}

/// @spec §5.2.1: answer to an asynchronous event request: type, information << 8, log page << 16.
enum class event_type : std::uint8_t { error = 0, health = 1, notice = 2, command_set = 6 };
/// Information of an `error` event.
enum class error_event : std::uint8_t {
  invalid_doorbell_register = 0,
  invalid_doorbell_value = 1,
  diagnostic_failure = 2,
  internal_error = 3,
};
/// Information of a `notice` event.
enum class notice_event : std::uint8_t { namespaces_changed = 0, firmware_activation = 1 };
/// Asynchronous event configuration, and which of them a controller has (OAES). @spec figure 326
inline constexpr std::uint32_t events_health_all = 0x1f;
inline constexpr std::uint32_t events_namespaces = 1U << 8U;
inline constexpr std::uint32_t events_firmware = 1U << 9U;
[[nodiscard]] constexpr std::uint32_t event_answer(event_type type, std::uint8_t information,
                                                   log_page page) noexcept {
  return static_cast<std::uint32_t>(type) | std::uint32_t{information} << 8U |
         static_cast<std::uint32_t>(page) << 16U;
}

}  // namespace runnel::nvme
