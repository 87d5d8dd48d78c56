#pragma once

#include <memory>

#include "drivers/block.h"
#include "mempool/base/error.h"

namespace runnel::vfio {

/// Work that makes its thread wait, together with all it needs and what comes of it.
class blocking_job {
 public:
  blocking_job() = default;
  blocking_job(const blocking_job&) = delete;
  blocking_job& operator=(const blocking_job&) = delete;
  virtual ~blocking_job() = default;

  /// @context some other thread; touches nothing that its owner does not hold for it alone
  virtual void run() noexcept = 0;
};

/// Where system calls are made that block (opening, resetting and closing a device takes the kernel
/// about 110 ms each), so that no driver waits for them. Drivers own no threads: who builds them
/// hands this in, one for each device. What was started is taken or abandoned before this goes.
/// @context the owner's thread
class blocking_calls {
 public:
  virtual ~blocking_calls() = default;

  /// @error queue_full: `job` is untouched
  [[nodiscard]] virtual result<ticket> start(std::unique_ptr<blocking_job>& job) noexcept = 0;
  /// The job when it has run, once; null while it is under way.
  [[nodiscard]] virtual std::unique_ptr<blocking_job> take(ticket which) noexcept = 0;
  /// Nobody will take it: it runs all the same, also when this is gone, and is destroyed by
  /// whatever thread ran it.
  virtual void abandon(ticket which) noexcept = 0;
  /// Readable when a job has run that was not taken.
  [[nodiscard]] virtual int event_fd() const noexcept = 0;
};

}  // namespace runnel::vfio
