#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

// Structures of VFIO as they are known of some kernels, for those that tell nothing of their types,
// and to see what others have changed. Of kernels that were built for x86-64; the newest is what
// include/linux/vfio.h had, with all of its options.
namespace runnel::doctor {

/// A member, and in which of the kernels of its structure it is.
struct known_field {
  std::string_view declaration;
  std::uint8_t first = 0;  // an index into known_structure::kernels
  std::uint8_t last = 0;
};

struct known_structure {
  std::string_view name;
  std::span<const std::string_view> kernels;  // "5.4", in order
  std::span<const known_field> fields;
};

[[nodiscard]] std::span<const known_structure> known_structures() noexcept;

/// Of the kernels of which it is known, the newest that is not newer than that one, or the oldest.
/// @return an index into its kernels
[[nodiscard]] std::size_t nearest_kernel(const known_structure& which, std::string_view release);

/// The name in a declaration: "init" of "int (*init)(struct vfio_device *)".
[[nodiscard]] std::string_view declared_name(std::string_view declaration) noexcept;

}  // namespace runnel::doctor
