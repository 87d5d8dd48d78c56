#include "drivers/vfio/device_alarms.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cstdint>
#include <utility>

#include "drivers/vfio/uapi/vfio.h"

namespace runnel::vfio {
namespace {

[[nodiscard]] unique_fd make_eventfd() noexcept {
  return unique_fd{::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
}

[[nodiscard]] bool drain(const unique_fd& eventfd) noexcept {
  std::uint64_t count = 0;
  return ::read(eventfd.get(), &count, sizeof(count)) == sizeof(count);
}

[[nodiscard]] result<> arm_one(syscalls& system, int device, pci_irq index,
                               const unique_fd& eventfd) noexcept {
  namespace flag = uapi::irq_set_flags;
  struct {
    uapi::irq_set head;
    std::int32_t eventfd;
  } asked{.head = {.argsz = sizeof(asked),
                   .flags = flag::data_eventfd | flag::action_trigger,
                   .index = std::to_underlying(index),
                   .start = 0,
                   .count = 1},
          .eventfd = eventfd.get()};
  const auto done = ioctl_on(system, device, uapi::ioctls::device_set_irqs, asked);
  return done ? result<>{} : std::unexpected{done.error()};
}

}  // namespace

device_alarms::device_alarms(int besides) noexcept
    : error_{make_eventfd()}, request_{make_eventfd()}, waits_{::epoll_create1(EPOLL_CLOEXEC)} {
  if (!watch(besides) || !watch(error_.get()) || !watch(request_.get())) {
    waits_.reset();
  }
}

bool device_alarms::watch(int fd) noexcept {
  epoll_event wanted{.events = EPOLLIN, .data = {.fd = fd}};
  return ::epoll_ctl(waits_.get(), EPOLL_CTL_ADD, fd, &wanted) == 0;
}

result<> device_alarms::arm(syscalls& system, int device, std::span<irq_info> irqs) noexcept {
  for (const auto& [index, eventfd] :
       {std::pair{pci_irq::err, &error_}, std::pair{pci_irq::req, &request_}}) {
    const auto at = std::to_underlying(index);
    if (at >= irqs.size() || irqs[at].count == 0) {
      continue;  // a device without AER, or an older kernel
    }
    if (const auto assigned = arm_one(system, device, index, *eventfd); !assigned) {
      return assigned;
    }
    irqs[at] = {};
  }
  return {};
}

bool device_alarms::take_error() noexcept {
  return drain(error_);
}

bool device_alarms::take_request() noexcept {
  return drain(request_);
}

}  // namespace runnel::vfio
