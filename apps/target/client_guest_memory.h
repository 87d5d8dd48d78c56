#pragma once

#include <cstddef>
#include <cstdint>

#include "apps/target/guest_memory.h"
#include "drivers/vfio_user/client_memory.h"
#include "mempool/base/units.h"
#include "mempool/region.h"

namespace runnel::target {

/// The memory of a vfio-user client, for the controller.
class client_guest_memory final : public guest_memory {
 public:
  explicit client_guest_memory(const vfio_user::client_memory& memory) noexcept : memory_{memory} {}

  [[nodiscard]] memory_run run_at(iova first, access wanted) const noexcept override;

  /// Has one region be as if it were absent, until the next call: devices do not reach it yet, or
  /// never will. @param which  only compared, so it may be gone; null: none
  void hide(const region* which) noexcept { hidden_ = which; }

  /// The client took memory away under us; what we read of it since is zero.
  [[nodiscard]] bool shrunk() const noexcept { return memory_.poisoned(); }

 private:
  const vfio_user::client_memory& memory_;
  const region* hidden_ = nullptr;
};

}  // namespace runnel::target
