#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "drivers/nvme/identify.h"
#include "drivers/nvme/rings.h"
#include "drivers/nvme/spec.h"
#include "mempool/base/error.h"
#include "mempool/base/units.h"

// The admin queue, the commands we send over it, and what their data means.
namespace runnel::nvme {

struct admin_reply {
  std::uint16_t status = 0;  // type << 8 | code
  std::uint32_t value = 0;   // dword 0 of the completion
};

/// Commands with replies matched by id. Deadlines are its user's: a controller that does not answer
/// is reset as a whole, never asked again.
/// @context the thread that advances the controller
class admin_queue {
 public:
  static constexpr std::uint32_t entries = 32;

  admin_queue() noexcept = default;
  admin_queue(submission_ring submission, completion_ring completion) noexcept
      : submission_{submission}, completion_{completion} {}

  /// Sends one command. @param command  its id is set here
  /// @error queue_full
  [[nodiscard]] result<command_id> submit(submission_entry command) noexcept;
  /// Takes in what the device has answered.
  void poll() noexcept;
  /// The reply, once; empty while there is none.
  [[nodiscard]] std::optional<admin_reply> take(command_id which) noexcept;

  /// Forgets every command. @pre the controller is disabled
  void rewind() noexcept;

 private:
  enum class slot_state : std::uint8_t { free, sent, answered };
  struct slot {
    slot_state state = slot_state::free;
    admin_reply reply;
  };

  submission_ring submission_;
  completion_ring completion_;
  std::array<slot, entries - 1> slots_{};
};

// Commands. `data` is page aligned; identify answers with identify_bytes.
[[nodiscard]] submission_entry identify_command(identify_cns what, std::uint32_t nsid, iova data);
[[nodiscard]] submission_entry get_feature_command(feature which, feature_select select);
[[nodiscard]] submission_entry set_feature_command(feature which, std::uint32_t value);
/// @param vector  of the interrupt for each completion; without: it is polled
[[nodiscard]] submission_entry create_cq_command(queue_id queue, std::uint32_t entries, iova ring,
                                                 std::optional<std::uint16_t> vector);
[[nodiscard]] submission_entry create_sq_command(queue_id queue, std::uint32_t entries, iova ring);
[[nodiscard]] submission_entry delete_cq_command(queue_id queue);
[[nodiscard]] submission_entry delete_sq_command(queue_id queue);
/// @param shadows, event_indices  a page each
[[nodiscard]] submission_entry doorbell_buffer_command(iova shadows, iova event_indices);
[[nodiscard]] submission_entry abort_command(queue_id queue, command_id which);
/// @param bytes  a multiple of 4, from 4 to one page
[[nodiscard]] submission_entry get_log_command(log_page page, std::uint32_t bytes, iova data);

/// What formatting a namespace does to the data that was there. @spec NVM §5.14 figure 195
enum class erase : std::uint8_t { none = 0, user_data = 1, key = 2 };
/// @param format  index in the list of formats of the namespace, below 64
[[nodiscard]] submission_entry format_command(std::uint32_t nsid, std::uint8_t format, erase how);

/// What the driver needs of a namespace.
struct namespace_format {
  std::uint32_t block_bytes = 0;
  std::uint64_t block_count = 0;
};
/// @error not_found (no such namespace), protocol (a format that does not exist),
///        unsupported (metadata, blocks outside 512 bytes .. 64 KiB)
[[nodiscard]] result<namespace_format> parse_namespace(const identify_namespace& data) noexcept;

/// Bytes one command may move, at most `bytes_max`. @param page_bytes_min  CAP.MPSMIN
/// @error unsupported: queue entries of other sizes than 64 and 16 bytes
[[nodiscard]] result<std::uint32_t> parse_transfer_limit(const identify_controller& data,
                                                         std::uint64_t page_bytes_min,
                                                         std::uint32_t bytes_max) noexcept;

/// The ids of an active namespace list, up to its first 0.
[[nodiscard]] std::vector<std::uint32_t> parse_namespace_list(const namespace_list& data);

/// Names of a namespace that outlive its controller; empty where the device gives none.
struct namespace_names {
  std::optional<std::array<std::uint8_t, 8>> eui64;
  std::optional<std::array<std::uint8_t, 16>> nguid;
  std::optional<std::array<std::uint8_t, 16>> uuid;
};
/// Reads a descriptor list as far as it is well formed.
[[nodiscard]] namespace_names parse_descriptors(std::span<const std::byte, identify_bytes> data);

/// A text field without its padding; what is not printable becomes '?', for it goes to a terminal.
[[nodiscard]] std::string text_of(std::span<const char> field);

}  // namespace runnel::nvme
