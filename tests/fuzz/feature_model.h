#pragma once

#include <algorithm>
#include <span>

#include "drivers/vfio/uapi/vfio.h"
#include "drivers/vfio_user/device_model.h"
#include "mempool/base/check.h"

namespace runnel::fuzz {

/// A device that migrates and logs: it has every feature, and looks at all that it is given.
class feature_model final : public vfio_user::device_model {
 public:
  using answer = vfio_user::answer;
  using request_id = vfio_user::request_id;

  [[nodiscard]] static const vfio_user::device_layout& layout() {
    using namespace vfio::uapi;
    static const vfio_user::device_layout all{
        .flags = device_flags::pci | device_flags::reset,
        .regions = {},
        .irqs = {{.flags = irq_flags::eventfd | irq_flags::maskable, .count = 1},
                 {},
                 {.flags = irq_flags::eventfd, .count = 33}},
        .migration_flags = 1,
        .dirty_log = true};
    return all;
  }

  const vfio_user::device_layout& init() override { return layout(); }
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
  answer migration_set_state(request_id, std::uint32_t) override { return answer::ok(); }
  answer migration_get_state(std::uint32_t& state) override {
    state = 2;
    return answer::ok();
  }
  answer migration_get_data_size(std::uint64_t& bytes) override {
    bytes = 1;
    return answer::ok();
  }
  answer log_start(std::uint64_t, std::span<const vfio::region_area> ranges) override {
    CHECK(!ranges.empty());
    return answer::ok();
  }
  answer log_stop() override { return answer::ok(); }
  answer log_read_and_clear(std::uint64_t, std::uint64_t, std::span<std::byte> bitmap) override {
    std::ranges::fill(bitmap, std::byte{0xff});
    return answer::ok();
  }
};

}  // namespace runnel::fuzz
