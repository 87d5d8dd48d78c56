#pragma once

#include <span>

#include "drivers/vfio/syscalls.h"
#include "drivers/vfio/transport.h"
#include "mempool/base/error.h"
#include "mempool/base/unique_fd.h"

namespace runnel::vfio {

/// What the kernel tells of a device unasked: that the device failed, and that the kernel wants it
/// back, whose `unbind` waits until nothing of it is in use here.
///
/// @context one thread
/// @spec Linux VFIO_PCI_ERR_IRQ_INDEX, VFIO_PCI_REQ_IRQ_INDEX
class device_alarms {
 public:
  /// @param besides  a descriptor that wakes the same waiter; borrowed
  explicit device_alarms(int besides) noexcept;

  /// Readable when an alarm has come that was not taken, and when `besides` is. -1: the system gave
  /// none.
  [[nodiscard]] int event_fd() const noexcept { return waits_.get(); }

  /// Has them told of an opened device. Those it has are ours: nobody else finds them in `irqs`.
  /// @error os
  [[nodiscard]] result<> arm(syscalls& system, int device, std::span<irq_info> irqs) noexcept;

  // Whether the alarm has come since it was asked for last.
  [[nodiscard]] bool take_error() noexcept;
  [[nodiscard]] bool take_request() noexcept;

 private:
  [[nodiscard]] bool watch(int fd) noexcept;

  unique_fd error_;
  unique_fd request_;
  unique_fd waits_;  // for all three
};

}  // namespace runnel::vfio
