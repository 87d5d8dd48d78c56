#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <span>

#include "drivers/vfio_user/device_model.h"

namespace runnel::vfio_user {

/// What a SET_IRQS message asks for once all its rules hold.
struct irq_change {
  enum class kind : std::uint8_t {
    nothing,  // well-formed, but no vector is named
    disable,  // the whole interrupt
    attach,   // the message's eventfds, to vectors start..
    detach,   // vectors start..
    trigger,  // vectors start.., as if the device had
    mask,
    unmask,
  };
  kind what = kind::nothing;
  std::uint32_t index = 0;
  std::uint32_t start = 0;
  std::uint32_t count = 0;
};

/// Checks the payload against the layout, in the kernel's order. Eventfds come beside the bytes,
/// so there are none or exactly `count`.
/// @return the change, or the errno to refuse with
/// @spec Linux vfio_set_irqs_validate_and_prepare; vfio-user VFIO_USER_DEVICE_SET_IRQS
[[nodiscard]] std::expected<irq_change, int> check_irq_set(std::span<const std::byte> payload,
                                                           std::size_t fd_count,
                                                           const device_layout& layout) noexcept;

/// An eventfd, as far as can be told, made non-blocking: pipes, sockets and files are refused. Its
/// other holders can make it blocking again; `signal_eventfd` does not wait even then.
/// @return 0 or an errno
[[nodiscard]] int prepare_eventfd(int fd) noexcept;

}  // namespace runnel::vfio_user
