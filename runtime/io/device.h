#pragma once

#include <cstddef>
#include <memory>
#include <utility>
#include <vector>

#include "drivers/block.h"
#include "mempool/base/check.h"
#include "runtime/io/block.h"
#include "runtime/io/open.h"
#include "runtime/reactor.h"

namespace runnel {
class engine;
}

namespace runnel::io {

/// A block device of an engine: one queue on each of its cores, the control side served by the
/// first. Made by `engine::open`.
class shared_device {
 public:
  explicit shared_device(device_pointer device) noexcept
      : device_{std::move(device)},
        control_{[](void* context, instant now) noexcept {
                   return static_cast<block_device*>(context)->advance(now);
                 },
                 device_.get(), device_->event_fd(), "device control"} {}

  shared_device(const shared_device&) = delete;
  shared_device& operator=(const shared_device&) = delete;
  /// Closes the device. Queues that their cores have not deleted, since none began to use them, go
  /// before it; memory that was in its reach goes home after it.
  ~shared_device() {
    raw_queues_.clear();
    for (const auto& each : disks_) {
      each->drop_queue();
    }
    device_.reset();
  }

  [[nodiscard]] const block_info& info() const noexcept { return device_->info(); }

  /// The device itself, for map and unmap. @context the first core, once the engine runs it
  [[nodiscard]] block_device& device() noexcept { return *device_; }

  /// What tasks on the `core_index`th core await. @pre not opened raw
  [[nodiscard]] disk& on(std::size_t core_index) noexcept {
    CHECK(core_index < disks_.size());
    return *disks_[core_index];
  }

  /// That core's queue, polled and flushed by the user. @pre opened raw
  [[nodiscard]] block_queue& queue(std::size_t core_index) noexcept {
    CHECK(core_index < raw_queues_.size());
    return *raw_queues_[core_index];
  }

 private:
  friend class runnel::engine;

  device_pointer device_;
  service control_;
  std::vector<std::unique_ptr<disk>> disks_;
  std::vector<std::unique_ptr<block_queue>> raw_queues_;
};

}  // namespace runnel::io
