#include "runtime/io/open.h"

#include <poll.h>

#include <algorithm>
#include <chrono>
#include <ctime>
#include <utility>
#include <vector>

#include "drivers/soft/null.h"
#include "drivers/soft/ram.h"
#include "drivers/uring/file.h"
#include "drivers/vfio/user_client.h"
#include "drivers/vfio_user/channel.h"
#include "mempool/base/check.h"

namespace runnel::io {
namespace {

constexpr std::uint32_t default_block_bytes = 512;
constexpr nanoseconds shutdown_limit = std::chrono::seconds{5};

/// Sleeps until one of them is readable or `until` has come.
void wait_for(std::span<pollfd> any, instant now, instant until) noexcept {
  constexpr nanoseconds longest = std::chrono::seconds{1};
  const nanoseconds left = until > now ? std::min(until - now, longest) : nanoseconds{0};
  const auto whole = std::chrono::duration_cast<std::chrono::seconds>(left);
  const timespec timeout{.tv_sec = whole.count(), .tv_nsec = (left - whole).count()};
  ppoll(any.data(), any.size(), &timeout, nullptr);  // ending early, why ever, is harmless
}

/// Advances controllers until the state of each is another than `leaving`, one has failed or
/// `limit` has come.
void drive(std::span<nvme::controller* const> devices, const clock_source& clock,
           nvme::controller_state leaving, instant limit) {
  std::vector<pollfd> waits;
  for (instant now = clock.now(); now < limit; now = clock.now()) {
    waits.clear();
    instant next = limit;
    for (nvme::controller* const each : devices) {
      if (each->state() == leaving) {
        next = std::min(next, each->advance(now));
        waits.push_back({.fd = each->event_fd(), .events = POLLIN, .revents = 0});
      }
    }
    const auto is = [devices](nvme::controller_state state) {
      return std::ranges::count(devices, state, &nvme::controller::state);
    };
    if (is(leaving) == 0 || is(nvme::controller_state::failed) != 0) {
      return;
    }
    wait_for(waits, now, next);
  }
}

/// The closer of controllers. @pre `device` is one
void shut_down(block_device& device, const clock_source& clock) noexcept {
  auto* const controller = &static_cast<nvme::controller&>(device);
  if (controller->state() == nvme::controller_state::ready) {
    controller->shutdown();
    drive({&controller, 1}, clock, nvme::controller_state::closing, clock.now() + shutdown_limit);
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

bool is_nvme(scheme kind) noexcept {
  return kind == scheme::vfio_user || kind == scheme::pci;
}

/// A controller that is reached that way, connecting.
controller_pointer make_controller(const address& where, const open_context& context,
                                   vfio_host::access by) {
  nvme::controller_options wishes;
  wishes.name = where.text;
  wishes.note = std::move(by.note);
  wishes.nsid = where.namespace_id.value_or(0);
  wishes.queue_count = context.queues;
  wishes.queue_depth = where.queue_depth.value_or(context.queue_depth);
  wishes.interrupts = context.interrupts;
  if (where.kind == scheme::pci) {
    wishes.doorbells = nvme::doorbell_policy::burst;  // a store over PCIe costs more than a line
  }
  return {
      new nvme::controller{std::move(by.transport), *by.domain, context.memory, std::move(wishes)},
      device_closer{shut_down, context.clock}};
}

outcome<controller_pointer> begin_controller(const address& where, const open_context& context) {
  if (where.kind == scheme::pci) {
    auto by = context.kernel.open(where, context.memory);
    if (!by) {
      return std::unexpected{std::move(by.error())};
    }
    return make_controller(where, context, std::move(*by));
  }
  auto channel = vfio_user::connect_socket(where.target.c_str());
  if (!channel) {
    return std::unexpected{std::move(channel.error())};
  }
  vfio::client_options client_wishes;
  client_wishes.object = where.text;
  auto client = std::make_unique<vfio::user_client>(std::move(*channel), std::move(client_wishes));
  vfio::iommu_domain* const domain = client.get();
  return make_controller(where, context, {.transport = std::move(client), .domain = domain});
}

/// Has all of them ready. Every step of a bring-up has a deadline of its own.
outcome<> finish_controllers(std::span<nvme::controller* const> devices,
                             const clock_source& clock) {
  drive(devices, clock, nvme::controller_state::connecting, never);
  const auto failed =
      std::ranges::find(devices, nvme::controller_state::failed, &nvme::controller::state);
  return failed == devices.end() ? outcome<>{} : std::unexpected{(*failed)->reason()};
}

outcome<device_pointer> open_soft(const address& where, const open_context& context) {
  const std::uint32_t block_bytes = where.block_bytes.value_or(default_block_bytes);
  switch (where.kind) {
    case scheme::file:
      return open_file(where, context);
    case scheme::ram:
      return plain(soft::open_ram(where.text, where.bytes, block_bytes));
    case scheme::null:
      return plain(soft::open_null(where.text, where.bytes, block_bytes));
    case scheme::vfio_user:
    case scheme::pci:
      break;
  }
  CHECK(!is_nvme(where.kind));
  __builtin_unreachable();
}

}  // namespace

outcome<controller_pointer> open_controller(const address& where, const open_context& context) {
  if (!is_nvme(where.kind)) {
    return fail({errc::unsupported}, "identify", where.text, "it is no NVMe controller");
  }
  auto begun = begin_controller(where, context);
  if (!begun) {
    return begun;
  }
  auto* const device = begun->get();
  if (auto finished = finish_controllers({&device, 1}, context.clock); !finished) {
    return std::unexpected{std::move(finished.error())};
  }
  return begun;
}

outcome<std::vector<device_pointer>> open_blocks(std::span<const address> where,
                                                 const open_context& context) {
  std::vector<device_pointer> opened;
  std::vector<nvme::controller*> begun;
  for (const address& each : where) {
    if (!is_nvme(each.kind)) {
      auto device = open_soft(each, context);
      if (!device) {
        return std::unexpected{std::move(device.error())};
      }
      opened.push_back(std::move(*device));
      continue;
    }
    auto device = begin_controller(each, context);
    if (!device) {
      return std::unexpected{std::move(device.error())};
    }
    begun.push_back(device->get());
    opened.emplace_back(device->release(), device->get_deleter());
  }
  if (auto finished = finish_controllers(begun, context.clock); !finished) {
    return std::unexpected{std::move(finished.error())};
  }
  return opened;
}

outcome<device_pointer> open_block(const address& where, const open_context& context) {
  auto opened = open_blocks({&where, 1}, context);
  if (!opened) {
    return std::unexpected{std::move(opened.error())};
  }
  return std::move(opened->front());
}

}  // namespace runnel::io
