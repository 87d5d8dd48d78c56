#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "drivers/block.h"
#include "drivers/nvme/controller.h"
#include "mempool/base/clock.h"
#include "mempool/base/error.h"
#include "mempool/window.h"
#include "runtime/io/address.h"
#include "runtime/io/vfio_host.h"

namespace runnel::io {

struct open_context {
  window& memory;             // where drivers take queue memory; becomes reachable by the device
  const clock_source& clock;  // for deadlines; outlives the device
  vfio_host& kernel;          // for devices of this machine; outlives them
  std::uint32_t queues = 1;   // how many will be made
  std::uint32_t queue_depth = 128;  // unless the address says otherwise
  bool read_only = false;           // for files one may not write
  bool interrupts = false;          // its queues wake cores that sleep
};

/// Closes a device in order when it is dropped: an NVMe controller is shut down and no longer
/// reaches our memory. Its queues must be gone by then.
/// @context control thread; blocks until the device is off or its deadline has passed
class device_closer {
 public:
  using function = void (*)(block_device& device, const clock_source& clock) noexcept;

  device_closer() noexcept = default;
  device_closer(function shut_down, const clock_source& clock) noexcept
      : shut_down_{shut_down}, clock_{&clock} {}

  void operator()(block_device* device) const noexcept {
    if (shut_down_ != nullptr) {
      shut_down_(*device, *clock_);
    }
    delete device;
  }

 private:
  function shut_down_ = nullptr;  // null: nothing to do
  const clock_source* clock_ = nullptr;
};
using device_pointer = std::unique_ptr<block_device, device_closer>;
using controller_pointer = std::unique_ptr<nvme::controller, device_closer>;

/// Brings a device up: after this, `make_queue` and I/O work and the owner serves its control side.
/// @error what the device or the system says, with the address and a remedy; unsupported: a scheme
///        this build cannot open
/// @context control thread; blocks until the device is ready or its bring-up deadline has passed
[[nodiscard]] outcome<device_pointer> open_block(const address& where, const open_context& context);

/// The same for several at once, which takes as long as the slowest. All of them, or none.
[[nodiscard]] outcome<std::vector<device_pointer>> open_blocks(std::span<const address> where,
                                                               const open_context& context);

/// The same for what is an NVMe controller, to see what it says of itself.
/// @error as above; unsupported: the address names something else
[[nodiscard]] outcome<controller_pointer> open_controller(const address& where,
                                                          const open_context& context);

}  // namespace runnel::io
