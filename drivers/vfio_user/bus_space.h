#pragma once

#include <cstdint>
#include <mutex>
#include <optional>
#include <span>

#include "drivers/vfio_user/free_extents.h"
#include "mempool/base/units.h"
#include "mempool/window.h"

namespace runnel::vfio_user {

/// Bus addresses for the memory of clients, low enough for the smallest IOMMUs (39 bits), as our
/// own addresses of that memory are not. One for all clients whose memory the same devices reach.
/// Windows lie below it.
/// @context any thread
class bus_space {
 public:
  static constexpr std::uint64_t first = window_addresses_end;
  static constexpr std::uint64_t end = 512 * gib;

  /// Where devices are to see this memory, as suits large pages; empty: there is no room.
  [[nodiscard]] std::optional<std::uint64_t> take(std::span<const std::byte> memory);
  /// @param at  what `take` gave for it
  void give_back(std::uint64_t at, std::span<const std::byte> memory);

 private:
  std::mutex mutex_;
  free_extents free_{end - first};
};

}  // namespace runnel::vfio_user
