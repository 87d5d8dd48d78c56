#pragma once

#include <cstdint>
#include <span>

#include "drivers/vfio_user/device_model.h"

namespace runnel::sim {

/// A device that agrees to everything and does nothing; whoever derives says what it is.
class quiet_model : public vfio_user::device_model {
 public:
  using answer = vfio_user::answer;
  using request_id = vfio_user::request_id;

  void open_device(vfio_user::client_memory&) override {}
  bool close_device() override { return true; }
  answer read(request_id, std::uint32_t, std::uint64_t, std::span<std::byte>) override {
    return answer::ok();
  }
  answer write(request_id, std::uint32_t, std::uint64_t, std::span<const std::byte>) override {
    return answer::ok();
  }
  answer set_irq_triggers(std::uint32_t, std::uint32_t, std::span<unique_fd>) override {
    return answer::ok();
  }
  void disable_irqs(std::uint32_t) override {}
  void mask_irq(std::uint32_t, bool) override {}
  answer reset(request_id) override { return answer::ok(); }
  answer dma_map(request_id, const region&) override { return answer::ok(); }
  answer dma_unmap(request_id, const region&) override { return answer::ok(); }
};

}  // namespace runnel::sim
