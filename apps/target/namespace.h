#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <string_view>

#include "drivers/block.h"

namespace runnel::target {

/// The names of a namespace that stay when it is served again. EUI-64 and NGUID carry the mark of
/// local administration: we own no range of them.
struct namespace_identity {
  std::array<std::uint8_t, 16> uuid{};
  std::array<std::uint8_t, 16> nguid{};
  std::array<std::uint8_t, 8> eui64{};
};

/// The same for the same subsystem, number and address, different for any other.
[[nodiscard]] namespace_identity derive_identity(std::string_view subsystem_nqn, std::uint32_t nsid,
                                                 std::string_view address);

/// A block device as namespace of a subsystem.
struct exported_namespace {
  block_device* device = nullptr;  // borrowed; outlives the subsystem
  namespace_identity identity;
  /// Set while a controller carries out a fused pair: those of the others wait.
  std::unique_ptr<std::atomic<bool>> pair_gate = std::make_unique<std::atomic<bool>>(false);
};

}  // namespace runnel::target
