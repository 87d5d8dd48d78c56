#pragma once

#include <cstdint>
#include <vector>

#include "mempool/base/error.h"

namespace runnel::vfio_user {

/// Which parts of a range of bytes are free. The lowest that fits is taken, the rest of it stays
/// free, and neighbours join when they are given back.
/// @context one core; may allocate; as long as the free parts are many
class free_extents {
 public:
  explicit free_extents(std::uint64_t bytes) : free_{{.first = 0, .end = bytes}} {}

  /// @param alignment  of the result, a power of two
  /// @return the offset of `bytes` bytes that are free no more
  /// @error no_memory. @pre bytes > 0
  [[nodiscard]] result<std::uint64_t> take(std::uint64_t bytes, std::uint64_t alignment) noexcept;
  /// @pre these bytes were taken
  void give_back(std::uint64_t offset, std::uint64_t bytes) noexcept;

 private:
  struct extent {
    std::uint64_t first;
    std::uint64_t end;
  };
  std::vector<extent> free_;  // sorted, none touches another
};

}  // namespace runnel::vfio_user
