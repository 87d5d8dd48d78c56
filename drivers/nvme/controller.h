#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "drivers/block.h"
#include "drivers/nvme/controller_data.h"
#include "drivers/nvme/steps.h"
#include "drivers/vfio/domain.h"
#include "drivers/vfio/transport.h"
#include "mempool/base/clock.h"
#include "mempool/base/error.h"
#include "mempool/window.h"

namespace runnel::nvme {

enum class controller_state : std::uint8_t {
  connecting,  // bring-up or reset is under way; of itself, too, when commands are late
  ready,
  failed,   // for good; `reason` says why, and its queues take no request any more
  closing,  // shutdown is under way
  closed,   // the controller is off and reaches no memory of ours
};

/// What a device answers to a question.
struct admin_answer {
  std::uint32_t value = 0;          // of a feature
  std::span<const std::byte> data;  // of a log page; a copy, valid until the next question
};

/// One NVMe controller and one of its namespaces, as a block device.
///
/// Made, it is connecting: call `advance` when it asks to be, until the state is `ready` or
/// `failed`. Queues are made then; each belongs to one core, and all are destroyed before their
/// controller. Once a second the controller is looked after, and asked what it has to report: a
/// command over its time is aborted, and a controller that does not do that, answers no admin
/// command or reports a fatal error, by itself or by its transport, is reset, which ends what is in
/// flight with `aborted`. When a few resets in a row, of more each time, do not help it has failed.
/// What is in flight at one that failed ends with `device_gone` when it reaches our memory no more:
/// it is gone, its owner has it back, or it has been disabled, which is tried once a second. Until
/// then only the device itself ends requests. A queue that nobody polls has no time limits, but is
/// in the way of a reset.
///
/// @context one thread; where it says so, another after bring-up
class controller final : public block_device {
 public:
  /// @param domain  what the device's memory accesses go through; may be part of `transport`
  /// @param memory  where queues live; mapped into `domain` as a whole; outlives the controller
  controller(std::unique_ptr<vfio::device_transport> transport, vfio::iommu_domain& domain,
             window& memory, controller_options options);
  controller(const controller&) = delete;
  controller& operator=(const controller&) = delete;
  /// Gives queue memory back when the device was shut down; else it may still write there, and the
  /// memory is quarantined.
  ~controller() override;

  /// The number of blocks may change, in `advance`: events().resizes counts up then.
  [[nodiscard]] const block_info& info() const noexcept override { return data_.info; }
  /// @error invalid (depth over what it was opened with; more queues than it was opened with),
  ///        device_gone (not ready)
  [[nodiscard]] outcome<std::unique_ptr<block_queue>> make_queue(std::uint32_t depth) override;
  [[nodiscard]] result<ticket> map(const region& memory) noexcept override;
  [[nodiscard]] result<ticket> unmap(const region& memory) noexcept override;
  [[nodiscard]] std::optional<result<>> take(ticket which) noexcept override;
  [[nodiscard]] std::string map_hint(error what, const region& memory) const override {
    return data_.domain.map_hint(what, memory);
  }
  instant advance(instant now) noexcept override;
  [[nodiscard]] std::string mishap() const override;
  [[nodiscard]] int event_fd() const noexcept override { return transport_->event_fd(); }

  [[nodiscard]] controller_state state() const noexcept { return state_; }
  /// Why the state is `failed`. @pre it is
  [[nodiscard]] const failure& reason() const noexcept;

  /// Disables and enables the controller. Requests in flight end with `aborted`, later ones are
  /// refused until it is ready again; every queue must be polled meanwhile. @error busy (not ready)
  [[nodiscard]] result<> reset() noexcept;

  /// Turns the controller off, in order, then the state is `closed`. Requests should have ended;
  /// those that have not end with `device_gone`.
  void shutdown() noexcept;

  // Questions: one at a time, and nothing else is looked after until it is answered.
  // @error invalid, busy (another is under way or was not taken), device_gone (not ready)

  /// Starts to read a log page. @param bytes  a multiple of 4, at most one page
  [[nodiscard]] result<> read_log(log_page page, std::uint32_t bytes) noexcept;
  [[nodiscard]] result<> get_feature(feature which, feature_select select) noexcept;
  /// @error invalid, too: the number of queues, which is what it was opened with
  [[nodiscard]] result<> set_feature(feature which, std::uint32_t value) noexcept;
  /// Formats the namespace; all that it holds is lost. Nothing should be in flight. A controller
  /// whose blocks are of another size afterwards has failed, and is to be opened again.
  /// @param format  index in the formats of `details().namespace_identity`
  [[nodiscard]] result<> format(std::uint8_t format, erase how) noexcept;
  /// The answer, once; empty while under way.
  /// @error bad_status, timed_out (and the controller is reset), device_gone
  [[nodiscard]] std::optional<result<admin_answer>> take_answer() noexcept;

  /// What happened so far.
  [[nodiscard]] const controller_events& events() const noexcept { return data_.events; }

  /// What the device says of itself; known once it was `ready`.
  [[nodiscard]] const controller_data& details() const noexcept { return data_; }

 private:
  enum class activity : std::uint8_t {
    none,
    attach,
    enable,
    watch,
    abort,
    event,
    question,
    rescan,
    shutdown,
    retire
  };
  enum class question_state : std::uint8_t { none, wanted, answered, late };

  [[nodiscard]] result<> ask(const admin_question& what) noexcept;
  void heed_transport(instant now) noexcept;
  void begin(activity what, std::span<const step> steps, instant now) noexcept;
  [[nodiscard]] bool begin_next(instant now) noexcept;
  void enter_step(instant now) noexcept;
  [[nodiscard]] bool run_step(instant now) noexcept;
  void finish_activity(instant now) noexcept;
  [[nodiscard]] bool is_out_of_reach(error what) const noexcept;
  [[nodiscard]] bool fail_step(error what, instant now);
  [[nodiscard]] bool may_mend(error what) const noexcept;
  void begin_mending(failure why) noexcept;
  void fail_with(failure why, instant now) noexcept;
  void end_requests() noexcept;
  void give_memory_back() noexcept;

  std::unique_ptr<vfio::device_transport> transport_;
  controller_data data_;
  controller_state state_ = controller_state::connecting;
  std::optional<failure> reason_;

  activity activity_ = activity::none;
  std::span<const step> steps_;  // of the activity
  std::size_t at_ = 0;           // step under way
  bool started_ = false;         // its `start` has succeeded
  instant deadline_{};           // its end

  bool attached_ = false;
  bool ran_ = false;  // it was ready once
  bool reset_wanted_ = false;
  bool shutdown_wanted_ = false;
  std::uint32_t resets_left_ = 0;  // until it has failed
  question_state question_ = question_state::none;
  instant tick_at_{};   // when the queues' time goes on
  instant watch_at_{};  // when it is looked after, or retired, next; never: nothing is left to do
};

}  // namespace runnel::nvme
