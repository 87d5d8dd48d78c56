#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "drivers/nvme/admin.h"
#include "drivers/nvme/events.h"
#include "drivers/nvme/queue_pair.h"
#include "drivers/nvme/quirks.h"
#include "drivers/nvme/registers.h"
#include "drivers/nvme/transport_guard.h"
#include "drivers/vfio/domain.h"
#include "drivers/vfio/transport.h"
#include "mempool/base/unique_fd.h"
#include "mempool/window.h"

namespace runnel::nvme {

struct controller_options {
  std::string name{};      // the device in failures: "vfio-user:/run/a.sock"
  std::string note{};      // becomes that of its block_info
  std::uint32_t nsid = 0;  // 0: the first active namespace
  std::uint32_t queue_count = 1;
  std::uint32_t queue_depth = 128;
  doorbell_policy doorbells = doorbell_policy::eager;
  bool shadow_doorbells = true;  // where the device has them
  bool interrupts = false;       // so that queues can be armed, where it has one for each
  // How long the device may take. A command that is over its time is aborted; when that does not
  // end it within `answer_limit`, or an admin command is over its own, the controller is reset. For
  // one late command of a device that is ready again within 20 s all of that takes less than the
  // deadline of `io::disk`.
  nanoseconds io_limit = std::chrono::seconds{30};      // of an I/O command, and a sixteenth more
  nanoseconds admin_limit = std::chrono::seconds{60};   // of an admin command
  nanoseconds format_limit = std::chrono::minutes{10};  // of one that formats a namespace
  nanoseconds answer_limit = std::chrono::seconds{5};   // of all else it states no limit for itself
};

/// Memory and doorbells of one I/O queue pair. Lives as long as its controller.
struct io_queue {
  queue_id id{};
  std::span<std::byte> memory;  // one piece of the window, holding all three
  std::span<submission_entry> submission;
  std::span<completion_entry> completion;
  std::span<std::byte> lists;
  std::unique_ptr<queue_control> control;
  bool taken = false;  // a user has, or had, its queue_pair
};

/// How much is reset before the controller is enabled: more, when less did not help.
enum class reset_scope : std::uint8_t { controller, function, bus };

/// An admin command that a user asked for.
struct admin_question {
  submission_entry command{};    // its memory is `admin_data`
  std::uint32_t data_bytes = 0;  // that the device answers with
  nanoseconds limit{};
};

/// What the steps of bring-up, reset and shutdown work on, and what they learn.
struct controller_data {
  controller_data(vfio::device_transport& to, vfio::iommu_domain& reach, window& from,
                  controller_options wishes)
      : transport{to}, domain{reach}, memory{from}, options{std::move(wishes)}, registers{to} {}

  vfio::device_transport& transport;
  vfio::iommu_domain& domain;
  window& memory;
  controller_options options;
  register_port registers;
  mutable transport_guard guard;  // of `transport` and `domain`, held by the controller

  // Of the step under way.
  std::string hint;                    // what a failure adds to the step's name and error
  std::optional<ticket> map_ticket;    // map or unmap of the window
  std::optional<ticket> irq_ticket;    // of the queues' interrupts
  std::optional<ticket> reset_ticket;  // of more than the controller
  std::optional<command_id> admin_id;  // the admin command
  std::uint32_t queue_step = 0;        // queues made or deleted so far, CQs and SQs counted alike
  instant poll_at{};                   // when CSTS is read again
  io_queue* late_queue = nullptr;      // has the command that is aborted

  reset_scope scope = reset_scope::controller;  // of the reset under way

  // Learned from the device.
  capabilities caps;
  std::uint32_t version = 0;
  std::uint32_t ready_timeout_ms = 0;
  quirk_set quirks;
  std::uint16_t pci_command = 0;
  std::uint32_t configuration = 0;  // CC as it was before the step that changes it
  identify_controller controller_identity{};
  identify_command_set command_set_identity{};
  identify_namespace namespace_identity{};
  namespace_names names;
  std::vector<std::uint32_t> active_namespaces;
  std::uint32_t nsid = 0;
  std::uint32_t command_bytes_max = 0;
  command_limits limits;
  block_info info;
  controller_events events;

  // Owned, taken from `memory` at the first bring-up.
  std::span<std::byte> admin_memory;  // one piece, holding all that follow
  std::span<submission_entry> admin_submission;
  std::span<completion_entry> admin_completion;
  std::span<std::byte> admin_data;     // one page for the data of one admin command
  std::span<std::byte> shadows;        // of doorbells, one page
  std::span<std::byte> event_indices;  // one page, which the device writes
  bool shadows_used = false;
  std::vector<unique_fd> wakes;  // an eventfd for the interrupt of each I/O queue, or none at all
  admin_queue admin;
  std::vector<io_queue> queues;
  std::span<std::byte> doorbells;  // mapped, from the admin queue's on; empty: posted

  bool device_quiet = true;  // the controller is disabled: it cannot reach our memory

  admin_question question;
  admin_reply answer;
  std::array<std::byte, host_page_bytes> answer_data{};  // out of the device's reach
  std::array<std::optional<command_id>, event_requests_max> event_requests;
  std::uint32_t event_requests_allowed = 0;
  std::uint8_t event_logs = 0;  // wanted, a bit for each `event_log`
  bool rescan_wanted = false;   // the namespace may be another

  [[nodiscard]] iova address_of(const void* ours) const noexcept {
    return memory.memory().to_iova(static_cast<const std::byte*>(ours));
  }
  /// From a change of CC to when CSTS may be read.
  [[nodiscard]] nanoseconds status_delay() const noexcept {
    return quirks.contains(quirk::late_status) ? late_status_delay : nanoseconds{0};
  }
  [[nodiscard]] doorbell bell_at(std::uint64_t offset) const noexcept;
  /// The same of an I/O queue, for any core, with its shadow where they are used.
  [[nodiscard]] doorbell io_bell_at(std::uint64_t offset) const noexcept;
  /// Of an I/O queue pair: commands in flight at most, entries of its submission queue and of its
  /// completion queue.
  [[nodiscard]] std::uint32_t commands() const noexcept;
  [[nodiscard]] std::uint32_t submission_entries() const noexcept;
  [[nodiscard]] std::uint32_t completion_entries() const noexcept;
  [[nodiscard]] prp_rules prps() const noexcept;
  [[nodiscard]] queue_pair_parts parts_of(const io_queue& queue,
                                          std::uint32_t depth) const noexcept;
  /// A queue with a command that is over its time, or null.
  [[nodiscard]] io_queue* find_late_queue() noexcept;
  /// A sixteenth of `io_limit` has passed.
  void tick() noexcept;
  /// Nobody takes the results of what is under way.
  void abandon_step() noexcept;
  /// Tells every queue; those of other cores see it at their next call.
  void set_queues(queue_state state) noexcept;
};

/// What one command carries at most, so that its PRP list fits half a page.
inline constexpr std::uint32_t command_bytes_ceiling = 1U << 20U;
/// Largest request, and the most full commands it becomes on a device with a small MDTS.
inline constexpr std::uint32_t request_bytes_ceiling = 1U << 20U;
inline constexpr std::uint32_t request_commands_max = 16;

}  // namespace runnel::nvme
