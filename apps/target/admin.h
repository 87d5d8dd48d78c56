#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "apps/target/controller_features.h"
#include "apps/target/controller_state.h"
#include "apps/target/events.h"
#include "apps/target/guest_memory.h"
#include "apps/target/io_crew.h"
#include "apps/target/queue_table.h"
#include "apps/target/subsystem.h"
#include "drivers/nvme/spec.h"

namespace runnel::target {

struct admin_options {
  std::uint16_t controller_id = 1;
  feature_limits features;
  bool shadow_doorbells = false;  // offered
};

/// Executes admin commands, one a turn: they are rare, and the data path does not wait for them.
/// Two kinds are answered later: event requests when there is an event, and the deletion of a
/// submission queue when its last command has ended; meanwhile no other command is taken.
///
/// @context the controller's core
class admin_queue {
 public:
  admin_queue(controller_state& state, queue_table& queues, io_crew& crew, const subsystem& system,
              const guest_memory& memory, const admin_options& options);
  admin_queue(const admin_queue&) = delete;
  admin_queue& operator=(const admin_queue&) = delete;
  ~admin_queue() = default;

  /// Whether there is something to answer, and room for it.
  [[nodiscard]] bool due() noexcept;
  /// @pre due(), and the crew stands still
  /// @return commands taken or answered
  std::uint32_t serve() noexcept;

  /// The host broke a rule of the doorbells.
  void report(nvme::error_event what) noexcept;
  /// A namespace is another than it was: the host is told, if it wants to be, and finds it in a
  /// log.
  void namespace_changed(std::uint32_t nsid) noexcept;

  void forget_memory() noexcept { memory_.forget(); }
  void reset() noexcept;

 private:
  using command = nvme::submission_entry;
  struct answer {
    nvme::status_code status = nvme::status_code::success;
    std::uint32_t result = 0;
  };
  struct deletion {
    std::uint16_t command_id;
    queue_id queue;
  };

  [[nodiscard]] bool command_waits() noexcept {
    return queues_.admin().waiting(wrong_doorbells()) != 0 && !deletion_;
  }
  [[nodiscard]] std::uint64_t& wrong_doorbells() noexcept {
    return crew_.own().counters().wrong_doorbells;
  }
  bool tell_event() noexcept;
  bool finish_deletion() noexcept;
  void take_command() noexcept;

  [[nodiscard]] std::optional<answer> execute(const command& order) noexcept;
  [[nodiscard]] std::optional<answer> hold_event_request(const command& order) noexcept;
  [[nodiscard]] answer abort(const command& order) noexcept;
  [[nodiscard]] std::optional<answer> delete_submission(const command& order) noexcept;
  [[nodiscard]] answer delete_completion(const command& order) noexcept;
  [[nodiscard]] answer create_submission(const command& order) noexcept;
  [[nodiscard]] answer create_completion(const command& order) noexcept;
  [[nodiscard]] answer identify(const command& order) noexcept;
  [[nodiscard]] answer identify_namespace(const command& order) noexcept;
  [[nodiscard]] answer identify_command_set(const command& order) noexcept;
  [[nodiscard]] answer get_log_page(const command& order) noexcept;
  [[nodiscard]] answer get_feature(const command& order) noexcept;
  [[nodiscard]] answer set_feature(const command& order) noexcept;
  void watch_temperature() noexcept;

  /// The part of a log page that the command asks for: all there is between offset and length.
  [[nodiscard]] answer copy_log(const command& order, std::span<const std::byte> log) noexcept;
  template <class Page>
  [[nodiscard]] answer copy_log(const command& order, const Page& page) noexcept {
    return copy_log(order, std::as_bytes(std::span{&page, 1}));
  }

  /// Copies `source` to the `bytes` that the command describes; what is left there is untouched.
  [[nodiscard]] answer send(const command& order, std::span<const std::byte> source,
                            std::uint64_t bytes) noexcept;
  template <class Page>
  [[nodiscard]] answer send_page(const command& order, const Page& page) noexcept {
    return send(order, std::as_bytes(std::span{&page, 1}), sizeof page);
  }
  /// Copies what the command describes, once. @pre not empty, and no more than a page
  [[nodiscard]] answer receive(const command& order, std::span<std::byte> out) noexcept;

  controller_state& state_;
  queue_table& queues_;
  io_crew& crew_;
  const subsystem& system_;
  memory_view memory_;
  admin_options options_;
  event_board events_;
  std::vector<segment> segments_;  // of one transfer
  std::optional<deletion> deletion_;
};

}  // namespace runnel::target
