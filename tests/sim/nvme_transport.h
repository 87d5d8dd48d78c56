#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <deque>
#include <map>
#include <optional>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "drivers/nvme/controller_data.h"
#include "tests/sim/nvme_device.h"
#include "tests/sim/plain_transport.h"

// The way from the driver under test to a simulated device. Operations are carried out at once and
// answered at the next `advance`, which also lets the device run.
namespace runnel::sim {

struct nvme_transport_options {
  bool map_doorbells = true;
  std::optional<std::size_t> answers_max{};  // operations after these are never answered
  std::optional<std::size_t> gone_after{};   // the connection breaks after so many operations
  std::optional<std::size_t> ones_after{};   // what is read after so many operations is all ones
  std::size_t post_room = ~std::size_t{0};   // posted writes taken between two `advance`
  std::uint32_t vectors = 0;                 // of MSI-X
  bool resets = false;                       // more than the controller
  bool is_a_kernel = false;                  // takes a device back, and off
};

class nvme_transport final : public plain_transport {
 public:
  explicit nvme_transport(nvme_device& device, nvme_transport_options made_as = {})
      : plain_transport{0x4000, made_as.vectors}, options{made_as}, device_{&device} {}

  nvme_transport_options options;
  std::size_t operations = 0;
  std::size_t posts = 0;
  std::uint16_t pci_command = 0;
  std::uint32_t pci_id = 0x1234'1b36;

  /// Its owner wants the device back. `disconnect` follows.
  void leave() {
    state_ = vfio::transport_state::leaving;
    reason_ = {.what = {errc::device_gone}, .operation = "use", .object = "sim", .hint = "leaves"};
  }
  bool error_reported = false;  // by the device, to whoever is next to ask

  std::vector<nvme::reset_scope> resets;                 // that were done
  std::optional<nvme::reset_scope> reached_again_after;  // such a reset it reads as ones no more
  std::deque<error> reset_answers;  // of the next; busy is one at once; later they succeed

  void disconnect() {
    state_ = vfio::transport_state::gone;
    reason_ = {.what = {errc::device_gone},
               .operation = "talk to",
               .object = "sim",
               .hint = "the other end went away"};
  }

  instant advance(instant) noexcept override {
    if (options.gone_after && operations >= *options.gone_after) {
      disconnect();
    }
    if (state_ == vfio::transport_state::connecting) {
      state_ = vfio::transport_state::ready;
    }
    for (auto& [id, reply] : replies_) {
      reply.answered = reply.number < options.answers_max.value_or(~std::size_t{0});
    }
    posts_left_ = options.post_room;
    device_->run();
    return never;
  }
  [[nodiscard]] bool take_error() noexcept override { return std::exchange(error_reported, false); }
  [[nodiscard]] std::span<std::byte> map_region(std::uint32_t, std::uint64_t offset,
                                                std::uint64_t length) noexcept override {
    if (!options.map_doorbells || offset != 0x1000 || length > device_->doorbells().size()) {
      return {};
    }
    return device_->doorbells().first(length);
  }

  [[nodiscard]] result<ticket> region_read(std::uint32_t index, std::uint64_t offset,
                                           std::uint32_t bytes) noexcept override {
    if (options.ones_after && operations >= *options.ones_after) {
      return answer(nvme::all_ones >> (64 - 8 * bytes));
    }
    if (index == 0) {
      return answer(device_->read(offset, bytes));
    }
    const bool absent = device_->faults.absent;  // of the command the kernel makes up a bit
    return answer(offset == 0 ? (absent ? ~0U : pci_id) : (absent ? 0xfbffU : pci_command));
  }
  [[nodiscard]] result<ticket> set_irqs(std::uint32_t, std::uint32_t start,
                                        std::span<const int> eventfds) noexcept override {
    for (const int each : eventfds) {
      device_->eventfds[start++] = unique_fd{::dup(each)};
    }
    return answer(0);
  }
  [[nodiscard]] std::optional<vfio::transport_reply> take(ticket which) noexcept override {
    if (state_ == vfio::transport_state::gone) {
      return vfio::transport_reply{.status = {errc::device_gone}, .value = 0, .data = {}};
    }
    const auto found = replies_.find(which);
    if (found == replies_.end() || !found->second.answered) {
      return std::nullopt;
    }
    const vfio::transport_reply reply{
        .status = found->second.status, .value = found->second.value, .data = {}};
    replies_.erase(found);
    return reply;
  }
  void abandon(ticket which) noexcept override { replies_.erase(which); }
  [[nodiscard]] result<ticket> reset() noexcept override {
    return reset_all_of(nvme::reset_scope::function);
  }
  [[nodiscard]] result<ticket> hot_reset() noexcept override {
    return reset_all_of(nvme::reset_scope::bus);
  }
  [[nodiscard]] std::string_view reset_hint() const noexcept override {
    return last_reset_failed_ ? "another is not ours" : "";
  }
  bool give_back() noexcept override {
    if (options.is_a_kernel && state_ == vfio::transport_state::ready) {
      leave();
    }
    return options.is_a_kernel;
  }
  [[nodiscard]] std::size_t in_flight() const { return replies_.size(); }

  [[nodiscard]] result<ticket> map(const region& memory) noexcept override {
    device_->maps.push_back(&memory);
    return answer(0);
  }
  [[nodiscard]] result<ticket> unmap(const region& memory) noexcept override {
    std::erase(device_->maps, &memory);
    return answer(0);
  }

 private:
  struct operation {
    std::size_t number = 0;
    std::uint64_t value = 0;
    bool answered = false;
    error status{};
  };

  result<ticket> reset_all_of(nvme::reset_scope what) {
    if (!options.resets) {
      return fail(errc::unsupported);
    }
    const error how = reset_answers.empty() ? error{} : reset_answers.front();
    if (!reset_answers.empty()) {
      reset_answers.pop_front();
    }
    if (how.code == errc::busy) {
      return std::unexpected{how};
    }
    last_reset_failed_ = how != error{};
    const result<ticket> started = answer(0);
    if (started && last_reset_failed_) {
      replies_[*started].status = how;
    } else if (started) {
      resets.push_back(what);
      device_->reset();
      device_->faults.absent = device_->faults.absent && reached_again_after != what;
    }
    return started;
  }

  result<ticket> answer(std::uint64_t value) override {
    if (state_ != vfio::transport_state::ready) {
      return fail(state_ == vfio::transport_state::gone ? errc::device_gone : errc::busy);
    }
    const ticket id{static_cast<std::uint32_t>(operations)};
    replies_[id] = {.number = operations++, .value = value, .answered = false};
    return id;
  }

  bool post_fits() override {
    if (posts_left_ == 0) {
      return false;
    }
    --posts_left_;
    ++posts;
    return true;
  }

  void store(std::uint32_t index, std::uint64_t offset, std::span<const std::byte> bytes) override {
    std::uint64_t value = 0;
    std::memcpy(&value, bytes.data(), bytes.size());
    if (index == 0) {
      device_->write(offset, value);
    } else {
      pci_command = static_cast<std::uint16_t>(value);
    }
  }

  nvme_device* device_;
  bool last_reset_failed_ = false;
  std::map<ticket, operation> replies_;
  std::size_t posts_left_ = ~std::size_t{0};
};

}  // namespace runnel::sim
