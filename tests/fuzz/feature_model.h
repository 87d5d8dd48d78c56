#pragma once

#include <algorithm>
#include <span>

#include "drivers/vfio/uapi/vfio.h"
#include "mempool/base/check.h"
#include "tests/sim/quiet_model.h"

namespace runnel::fuzz {

/// A device that migrates and logs: it has every feature, and looks at all that it is given.
class feature_model final : public sim::quiet_model {
 public:
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
