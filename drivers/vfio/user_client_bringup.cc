#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <string>
#include <utility>

#include "drivers/vfio/region_reply.h"
#include "drivers/vfio/uapi/vfio.h"
#include "drivers/vfio/user_client.h"
#include "mempool/base/check.h"

// What is asked before the device is ready: one question at a time, in the order of a table.
namespace runnel::vfio {
namespace {

using vfio_user::command;
using vfio_user::wire_bytes;

/// Room for a region's capabilities: about 250 sparse areas. The length SPDK's client asks with.
constexpr std::uint32_t region_reply_bytes = 4064;

}  // namespace

/// A question, asked once for each of `count` items.
struct user_client::bring_up_step {
  const char* name;
  std::uint32_t (*count)(const device_info&);
  result<ticket> (user_client::*ask)() noexcept;
  result<> (user_client::*learn)(std::span<const std::byte> reply);
  bool item_may_be_absent;

  static const std::array<bring_up_step, 4> table;
};

constexpr std::array<user_client::bring_up_step, 4> user_client::bring_up_step::table{{
    {"agree on a version with", [](const device_info&) { return 1U; }, &user_client::ask_version,
     &user_client::learn_version, false},
    {"ask for the device of", [](const device_info&) { return 1U; }, &user_client::ask_device_info,
     &user_client::learn_device_info, false},
    {"ask for the regions of", [](const device_info& device) { return device.region_count; },
     &user_client::ask_region_info, &user_client::learn_region_info, true},
    {"ask for the interrupts of", [](const device_info& device) { return device.irq_count; },
     &user_client::ask_irq_info, &user_client::learn_irq_info, true},
}};

/// Takes the answer to what was asked, if it is there, and asks what comes next.
void user_client::continue_bring_up() {
  if (state_ != transport_state::connecting) {
    return;
  }
  if (asked_) {
    const auto reply = operations_.take(*asked_);
    if (!reply) {
      return;
    }
    asked_.reset();
    if (const result<> learned = learn(*reply); !learned) {
      const bool silent = learned.error().code == errc::timed_out;
      lose(learned.error(), bring_up_step::table[step_].name,
           silent ? "it does not answer: is it a vfio-user server, and free?"
                  : "is it a vfio-user server? its answer number " + std::to_string(step_item_) +
                        " is no good");
      return;
    }
    ++step_item_;
  }
  ask_next();
}

result<> user_client::learn(const transport_reply& reply) {
  const bring_up_step& step = bring_up_step::table[step_];
  if (reply.status.code == errc::ok) {
    return (this->*step.learn)(reply.data);
  }
  if (step.item_may_be_absent && reply.status == error{errc::os, EINVAL}) {
    return {};  // how the kernel says that a device has no VGA region
  }
  return std::unexpected{reply.status};
}

void user_client::ask_next() {
  const auto& table = bring_up_step::table;
  while (step_ < table.size() && step_item_ == table[step_].count(info_)) {
    ++step_;
    step_item_ = 0;
  }
  if (step_ == table.size()) {
    state_ = transport_state::ready;
    return;
  }
  const auto started = (this->*table[step_].ask)();
  if (started) {
    asked_ = *started;
  } else {
    lose(started.error(), table[step_].name, {});
  }
}

nanoseconds user_client::answer_timeout() const noexcept {
  const bool greeting = state_ == transport_state::connecting && step_ == 0;
  return greeting ? options_.greeting_timeout : options_.message_timeout;
}

result<ticket> user_client::ask_version() noexcept {
  vfio_user::version_info proposal;
  proposal.limits.max_msg_fds = vfio_user::message_fds_max;
  const std::string text = vfio_user::encode_version(proposal);
  return ask({.what = command::version,
              .fixed = std::as_bytes(std::span{text}),
              .reply_bytes = operation_table::data_bytes_max});
}

result<> user_client::learn_version(std::span<const std::byte> reply) {
  const auto agreed = vfio_user::parse_version(reply);
  if (!agreed) {
    return std::unexpected{agreed.error()};
  }
  const auto& [numbers, limits] = *agreed;
  if (numbers.major != vfio_user::version_major || numbers.minor > vfio_user::version_minor ||
      limits.max_data_xfer_size == 0 || limits.max_dma_maps == 0 || limits.pgsizes == 0) {
    return fail(errc::protocol);
  }
  const domain_limits ours;
  message_fds_max_ = std::clamp<std::uint64_t>(limits.max_msg_fds, 1, vfio_user::message_fds_max);
  transfer_bytes_ = static_cast<std::uint32_t>(
      std::min<std::uint64_t>(limits.max_data_xfer_size, transfer_bytes_max));
  limits_.maps_max =
      static_cast<std::uint32_t>(std::min<std::uint64_t>(limits.max_dma_maps, ours.maps_max));
  limits_.page_bytes =
      std::max(std::uint64_t{1} << std::countr_zero(limits.pgsizes), ours.page_bytes);
  return {};
}

result<ticket> user_client::ask_device_info() noexcept {
  const vfio_user::device_info_payload fixed{.argsz = sizeof(fixed)};
  return ask({.what = command::device_get_info,
              .fixed = wire_bytes(fixed),
              .reply_bytes = sizeof(uapi::device_info)});
}

result<> user_client::learn_device_info(std::span<const std::byte> reply) {
  const auto device = vfio_user::read_wire<vfio_user::device_info_payload>(reply);
  if (!device || device->num_regions > regions_max || device->num_irqs > irqs_max) {
    return fail(errc::protocol);
  }
  info_ = {
      .flags = device->flags, .region_count = device->num_regions, .irq_count = device->num_irqs};
  return {};
}

result<ticket> user_client::ask_region_info() noexcept {
  const uapi::region_info fixed{.argsz = region_reply_bytes,
                                .flags = 0,
                                .index = step_item_,
                                .cap_offset = 0,
                                .size = 0,
                                .offset = 0};
  return ask({.what = command::device_get_region_info,
              .fixed = wire_bytes(fixed),
              .reply_bytes = region_reply_bytes});
}

result<> user_client::learn_region_info(std::span<const std::byte> reply) {
  auto region = parse_region_info(reply, step_item_);
  if (!region) {
    return std::unexpected{region.error()};
  }
  vfio_user::fd_list& fds = reader_.fds();
  if (fds.count > 0 && !region->areas.empty()) {
    region_fds_[step_item_] = std::move(fds.fds[0]);  // one file holds the whole region
    region->fd = region_fds_[step_item_].get();
  } else {
    region->areas.clear();  // nothing to map them from
  }
  regions_[step_item_] = std::move(*region);
  return {};
}

result<ticket> user_client::ask_irq_info() noexcept {
  const uapi::irq_info fixed{.argsz = sizeof(fixed), .flags = 0, .index = step_item_, .count = 0};
  return ask({.what = command::device_get_irq_info,
              .fixed = wire_bytes(fixed),
              .reply_bytes = sizeof(fixed)});
}

result<> user_client::learn_irq_info(std::span<const std::byte> reply) {
  const auto irq = vfio_user::read_wire<uapi::irq_info>(reply);
  if (!irq || irq->index != step_item_ || irq->count > vectors_max) {
    return fail(errc::protocol);
  }
  irqs_[step_item_] = {.flags = irq->flags, .count = irq->count};
  return {};
}

}  // namespace runnel::vfio
