#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "mempool/base/checked.h"
#include "mempool/base/units.h"
#include "mempool/region.h"

namespace runnel::target {

/// A run of a host's memory as this process reaches it. Empty address: nothing there.
struct memory_run {
  std::byte* address = nullptr;
  std::uint64_t bytes = 0;
  const region* memory = nullptr;  // one region holds the whole run
};

/// Copies what the host may be changing meanwhile. Only the copy is judged and used: the barrier
/// keeps the compiler from reading the original again.
inline void copy_once(void* out, const std::byte* from, std::size_t bytes) noexcept {
  std::memcpy(out, from, bytes);
  asm volatile("" : : "r"(out) : "memory");
}

/// The memory of the host that drives a controller, whatever brought it here. What it returns is
/// void after the next change of the maps; the transport then tells the controller.
class guest_memory {
 public:
  virtual ~guest_memory() = default;

  /// From `first` to the end of the region that holds it, if that region allows `wanted`.
  [[nodiscard]] virtual memory_run run_at(iova first, access wanted) const noexcept = 0;

  /// Where [first, first + bytes) is when it is contiguous here; it may span regions. Null when any
  /// byte is out of reach.
  [[nodiscard]] std::byte* resolve(iova first, std::uint64_t bytes, access wanted) const noexcept {
    if (bytes == 0 || !checked_add(raw(first), bytes - 1)) {
      return nullptr;
    }
    std::byte* const begin = run_at(first, wanted).address;
    for (std::uint64_t seen = 0; seen < bytes;) {
      const memory_run part = run_at(first + seen, wanted);
      if (part.address == nullptr || part.address != begin + seen) {
        return nullptr;
      }
      seen += part.bytes;
    }
    return begin;
  }
};

/// Translates addresses one after another: nearly all lie in the region of the one before, and then
/// it is a compare and an addition.
class memory_view {
 public:
  explicit memory_view(const guest_memory& memory) noexcept : memory_{&memory} {}

  /// At most `bytes` from `first`, all inside one region.
  [[nodiscard]] memory_run find(iova first, std::uint64_t bytes, access wanted) noexcept {
    const std::uint64_t offset = raw(first) - raw(first_);  // wraps to a huge number below it
    if (offset < bytes_ && allows(granted_, wanted)) [[likely]] {
      return {address_ + offset, std::min(bytes, bytes_ - offset), region_};
    }
    return find_elsewhere(first, bytes, wanted);
  }

  /// Every pointer handed out is void.
  void forget() noexcept { bytes_ = 0; }

 private:
  [[gnu::noinline]] memory_run find_elsewhere(iova first, std::uint64_t bytes,
                                              access wanted) noexcept {
    memory_run run = memory_->run_at(first, wanted);
    if (run.address == nullptr) {
      return {};
    }
    region_ = run.memory;
    first_ = iova{raw(first) - static_cast<std::uint64_t>(run.address - region_->address)};
    address_ = region_->address;
    bytes_ = region_->length;
    granted_ = region_->permissions;
    run.bytes = std::min(bytes, run.bytes);
    return run;
  }

  const guest_memory* memory_;
  iova first_{};  // the region that was found last, at its address for the host
  std::byte* address_ = nullptr;
  std::uint64_t bytes_ = 0;
  const region* region_ = nullptr;
  access granted_ = access::none;
};

}  // namespace runnel::target
