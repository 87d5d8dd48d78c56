#include "runtime/io/open.h"

#include <poll.h>

#include <algorithm>
#include <chrono>
#include <ctime>
#include <utility>

#include "drivers/soft/null.h"
#include "drivers/soft/ram.h"
#include "drivers/uring/file.h"
#include "drivers/vfio/user_client.h"
#include "drivers/vfio_user/channel.h"

namespace runnel::io {
namespace {

constexpr std::uint32_t default_block_bytes = 512;
constexpr nanoseconds shutdown_limit = std::chrono::seconds{5};

/// Sleeps until `fd` is readable or `until` has come.
void wait_for(int fd, instant now, instant until) noexcept {
  constexpr nanoseconds longest = std::chrono::seconds{1};
  const nanoseconds left = until > now ? std::min(until - now, longest) : nanoseconds{0};
  const auto whole = std::chrono::duration_cast<std::chrono::seconds>(left);
  const timespec timeout{.tv_sec = whole.count(), .tv_nsec = (left - whole).count()};
  pollfd wait{.fd = fd, .events = POLLIN, .revents = 0};
  ppoll(&wait, 1, &timeout, nullptr);  // ending early, for whatever reason, is harmless
}

/// Advances a controller until its state is another than `leaving` or `limit` has come.
void drive(nvme::controller& device, const clock_source& clock, nvme::controller_state leaving,
           instant limit) noexcept {
  for (instant now = clock.now(); now < limit; now = clock.now()) {
    const instant next = device.advance(now);
    if (device.state() != leaving) {
      return;
    }
    wait_for(device.event_fd(), now, std::min(next, limit));
  }
}

/// The closer of controllers. @pre `device` is one
void shut_down(block_device& device, const clock_source& clock) noexcept {
  auto& controller = static_cast<nvme::controller&>(device);
  if (controller.state() == nvme::controller_state::ready) {
    controller.shutdown();
    drive(controller, clock, nvme::controller_state::closing, clock.now() + shutdown_limit);
  }
}

outcome<device_pointer> plain(outcome<std::unique_ptr<block_device>> opened) {
  if (!opened) {
    return std::unexpected{std::move(opened.error())};
  }
  return device_pointer{opened->release()};
}

outcome<device_pointer> open_file(const address& where, const open_context& context) {
  uring::file_options options;
  options.block_bytes = where.block_bytes.value_or(default_block_bytes);
  options.read_only = context.read_only;
  options.pinned = &context.memory.memory();
  return plain(uring::open_file(where.text, where.target, options));
}

std::unexpected<failure> refuse_pci(const address& where) {
  return fail({errc::unsupported}, "open", where.text,
              "this version drives NVMe over vfio-user:PATH only");
}

}  // namespace

outcome<controller_pointer> open_controller(const address& where, const open_context& context) {
  if (where.kind == scheme::pci) {
    return refuse_pci(where);
  }
  if (where.kind != scheme::vfio_user) {
    return fail({errc::unsupported}, "identify", where.text, "it is no NVMe controller");
  }
  auto channel = vfio_user::connect_socket(where.target.c_str());
  if (!channel) {
    return std::unexpected{std::move(channel.error())};
  }
  vfio::client_options client_wishes;
  client_wishes.object = where.text;
  auto client = std::make_unique<vfio::user_client>(std::move(*channel), std::move(client_wishes));
  vfio::iommu_domain& domain = *client;
  nvme::controller_options wishes;
  wishes.name = where.text;
  wishes.nsid = where.namespace_id.value_or(0);
  wishes.queue_count = context.queues;
  wishes.queue_depth = where.queue_depth.value_or(context.queue_depth);
  wishes.interrupts = context.interrupts;
  controller_pointer device{
      new nvme::controller{std::move(client), domain, context.memory, std::move(wishes)},
      device_closer{shut_down, context.clock}};
  // Every step of the bring-up has a deadline of its own.
  drive(*device, context.clock, nvme::controller_state::connecting, never);
  if (device->state() != nvme::controller_state::ready) {
    return std::unexpected{device->reason()};
  }
  return device;
}

outcome<device_pointer> open_block(const address& where, const open_context& context) {
  const std::uint32_t block_bytes = where.block_bytes.value_or(default_block_bytes);
  switch (where.kind) {
    case scheme::vfio_user: {
      auto opened = open_controller(where, context);
      if (!opened) {
        return std::unexpected{std::move(opened.error())};
      }
      const device_closer closer{shut_down, context.clock};
      return device_pointer{opened->release(), closer};
    }
    case scheme::file:
      return open_file(where, context);
    case scheme::ram:
      return plain(soft::open_ram(where.text, where.bytes, block_bytes));
    case scheme::null:
      return plain(soft::open_null(where.text, where.bytes, block_bytes));
    case scheme::pci:
      break;
  }
  return refuse_pci(where);
}

}  // namespace runnel::io
