// Message buffers are of 1 MiB, and the sanitizer asks the system for each anew: that was two
// thirds of an execution. Here arrays of that size are kept for the next input. While nobody owns
// one it is poisoned, so a touch of it is still seen.

#include <array>
#include <cstddef>
#include <cstdlib>
#include <new>
#include <span>

#include "mempool/base/poison.h"

namespace {

constexpr std::size_t large_bytes = 512 * 1024;
constexpr std::size_t front_bytes = 16 * 1024;

struct block {
  void* at = nullptr;
  std::size_t bytes = 0;
  bool taken = false;

  [[nodiscard]] std::span<std::byte> front() const {
    return {static_cast<std::byte*>(at), front_bytes};
  }
};

std::array<block, 16>& blocks() {
  static std::array<block, 16> all;
  return all;
}

void* take(std::size_t bytes) {
  for (block& each : blocks()) {
    if (each.at == nullptr) {
      each = {.at = std::malloc(bytes), .bytes = bytes};
    }
    if (!each.taken && each.bytes == bytes) {
      each.taken = true;
      runnel::unpoison(each.front());
      return each.at;
    }
  }
  return std::malloc(bytes);
}

void give_back(void* memory) noexcept {
  for (block& each : blocks()) {
    if (memory != nullptr && each.at == memory) {
      each.taken = false;
      runnel::poison(each.front());
      return;
    }
  }
  std::free(memory);
}

}  // namespace

void* operator new[](std::size_t bytes) {
  void* const memory = bytes < large_bytes ? std::malloc(bytes) : take(bytes);
  if (memory == nullptr) {
    std::abort();
  }
  return memory;
}
void operator delete[](void* memory) noexcept {
  give_back(memory);
}
void operator delete[](void* memory, std::size_t bytes) noexcept {
  bytes < large_bytes ? std::free(memory) : give_back(memory);
}
