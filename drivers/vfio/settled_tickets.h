#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "drivers/block.h"
#include "drivers/vfio/transport.h"
#include "mempool/base/check.h"
#include "mempool/base/error.h"

namespace runnel::vfio {

/// Tickets of operations that were over when they were started, with their ends until those are
/// taken.
class settled_tickets {
 public:
  static constexpr std::size_t capacity = device_transport::operations_max;

  /// Whether one more fits.
  [[nodiscard]] bool full() const noexcept { return waiting_ == capacity; }

  /// @pre !full()
  [[nodiscard]] ticket settle(error status) noexcept {
    CHECK(!full());
    do {
      ++last_;
    } while (places_[last_ % capacity]);
    places_[last_ % capacity] = place{.id = ticket{last_}, .status = status};
    ++waiting_;
    return ticket{last_};
  }
  /// @pre `which` was settled here and not taken
  [[nodiscard]] transport_reply take(ticket which) noexcept {
    auto& found = places_[static_cast<std::uint32_t>(which) % capacity];
    CHECK(found && found->id == which);
    const transport_reply reply{.status = found->status, .value = 0, .data = {}};
    found.reset();
    --waiting_;
    return reply;
  }

 private:
  struct place {
    ticket id{};
    error status;
  };
  std::array<std::optional<place>, capacity> places_;
  std::uint32_t last_ = 0;
  std::size_t waiting_ = 0;
};

}  // namespace runnel::vfio
