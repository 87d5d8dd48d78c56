#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "drivers/vfio/blocking_calls.h"
#include "drivers/vfio/device_alarms.h"
#include "drivers/vfio/device_facts.h"
#include "drivers/vfio/device_opener.h"
#include "drivers/vfio/lifecycle.h"
#include "drivers/vfio/mapped_areas.h"
#include "drivers/vfio/operation_table.h"
#include "drivers/vfio/syscalls.h"
#include "drivers/vfio/transport.h"

namespace runnel::vfio {

struct kernel_device_options {
  nanoseconds open_timeout = std::chrono::seconds{30};
  nanoseconds reset_timeout = std::chrono::seconds{10};
};

/// A device that the kernel gives to this process by VFIO, whichever way it was opened. What takes
/// the kernel long (opening, resetting, closing) is done elsewhere; everything else is a system
/// call made in place, whose result waits for `take`. Goes before its domain.
///
/// When the kernel wants the device back, or what was mapped of it is not there any more, it
/// leaves: it is closed, which resets it, and then gone. What `map_region` returned is ordinary
/// memory by then and reads as ones, so the kernel need not wait for the device's users.
///
/// @context one thread; may allocate
/// @spec Linux Documentation/driver-api/vfio.rst
class kernel_device final : public device_transport {
 public:
  /// Asks the kernel for nothing before the first `advance`.
  kernel_device(syscalls& system, std::unique_ptr<blocking_calls> elsewhere,
                std::unique_ptr<device_opener> opener, kernel_device_options options = {});
  kernel_device(const kernel_device&) = delete;
  kernel_device& operator=(const kernel_device&) = delete;
  ~kernel_device() override;  // unmaps what `map_region` returned

  instant advance(instant now) noexcept override;
  /// Where its memory is mapped; says `device_gone` once it is. Goes with it.
  [[nodiscard]] iommu_domain& domain() noexcept { return opener_->domain(); }
  [[nodiscard]] int event_fd() const noexcept override { return alarms_.event_fd(); }

  [[nodiscard]] transport_state state() const noexcept override { return state_; }
  [[nodiscard]] const failure& reason() const noexcept override;

  [[nodiscard]] bool take_error() noexcept override { return std::exchange(failed_, false); }

  [[nodiscard]] const device_info& info() const noexcept override { return facts_.info; }
  [[nodiscard]] const region_info& region_at(std::uint32_t index) const noexcept override;
  [[nodiscard]] const irq_info& irq_at(std::uint32_t index) const noexcept override;

  [[nodiscard]] std::span<std::byte> map_region(std::uint32_t index, std::uint64_t offset,
                                                std::uint64_t length) noexcept override;

  [[nodiscard]] result<ticket> region_read(std::uint32_t index, std::uint64_t offset,
                                           std::uint32_t bytes) noexcept override;
  [[nodiscard]] result<ticket> region_write(std::uint32_t index, std::uint64_t offset,
                                            std::span<const std::byte> bytes) noexcept override;
  [[nodiscard]] result<> region_post(std::uint32_t index, std::uint64_t offset,
                                     std::span<const std::byte> bytes) noexcept override;
  [[nodiscard]] result<ticket> set_irqs(std::uint32_t index, std::uint32_t start,
                                        std::span<const int> eventfds) noexcept override;
  [[nodiscard]] result<ticket> trigger_irqs(const irq_vectors& which) noexcept override;
  [[nodiscard]] result<ticket> set_ioeventfd(const event_write& what,
                                             int eventfd) noexcept override;
  // One at a time; until it has ended, nothing else is possible (busy): the kernel would make us
  // wait, or let us read the ones of a device that does not answer.
  [[nodiscard]] result<ticket> reset() noexcept override;
  [[nodiscard]] result<ticket> hot_reset() noexcept override;
  [[nodiscard]] std::string_view reset_hint() const noexcept override { return reset_hint_; }
  bool give_back() noexcept override;
  [[nodiscard]] result<ticket> device_feature(std::uint32_t flags,
                                              std::span<const std::byte> data) noexcept override;

  [[nodiscard]] std::optional<transport_reply> take(ticket which) noexcept override;
  void abandon(ticket which) noexcept override { operations_.abandon(which); }

 private:
  using operation = operation_table::operation;
  class open_job;
  class reset_job;
  class close_job;

  [[nodiscard]] result<> admit() const noexcept;
  [[nodiscard]] result<> check_access(std::uint32_t index, std::uint64_t offset,
                                      std::size_t bytes) const noexcept;
  /// Gives an operation its result.
  ticket settle(operation& under, const result<>& outcome,
                std::span<const std::byte> data = {}) noexcept;
  [[nodiscard]] result<> read_bytes(std::uint32_t index, std::uint64_t offset,
                                    std::span<std::byte> into) noexcept;
  [[nodiscard]] result<> write_bytes(std::uint32_t index, std::uint64_t offset,
                                     std::span<const std::byte> from) noexcept;
  [[nodiscard]] result<> change_irqs(std::uint32_t index, std::uint32_t start,
                                     std::span<const int> eventfds) noexcept;
  [[nodiscard]] result<int> set_vectors(std::uint32_t index, std::uint32_t start,
                                        std::span<const int> fds) noexcept;

  // kernel_device_life.cc: opening, resetting, closing
  void begin_opening(instant now);
  void finish_opening(instant now);
  void abandon_opening() noexcept;
  [[nodiscard]] outcome<> take_over(open_job& ended);
  [[nodiscard]] result<std::unique_ptr<reset_job>> make_reset(bool hot) noexcept;
  [[nodiscard]] result<ticket> start_reset(bool hot) noexcept;
  void finish_reset() noexcept;
  void heed_alarms();
  void leave(failure why);
  void go_on_leaving() noexcept;

  syscalls* system_;
  std::unique_ptr<blocking_calls> elsewhere_;
  std::unique_ptr<device_opener> opener_;
  kernel_device_options options_;
  operation_table operations_;
  std::array<std::byte, transfer_bytes_max> transfer_{};  // of the read that is made
  bool news_ = false;                                     // results came since the last `advance`

  transport_state state_ = transport_state::connecting;
  failure reason_;
  std::optional<ticket> opening_;  // a job
  instant opening_deadline_ = never;
  std::optional<ticket> resetting_;  // a job
  std::uint16_t reset_id_ = 0;       // the operation that waits for it
  std::string reset_hint_;
  std::optional<ticket> closing_;  // a job

  attached_device device_;
  device_alarms alarms_;
  bool failed_ = false;  // it said so, and nobody has asked
  device_facts facts_;
  region_info absent_region_;
  irq_info absent_irq_;
  std::vector<bool> irqs_enabled_;  // for each interrupt
  mapped_areas areas_;
};

}  // namespace runnel::vfio
