#pragma once

#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <cstddef>
#include <cstring>
#include <span>
#include <string>

#include "mempool/base/check.h"
#include "mempool/base/unique_fd.h"
#include "mempool/base/units.h"

namespace runnel::fuzz {

/// Descriptors that a peer may send, good and bad ones. Made once; their bytes are zero again for
/// each input.
class files {
 public:
  static constexpr std::size_t ram_bytes = 64 * kib;

  files() : ram_{::memfd_create("ram", MFD_CLOEXEC)}, event_{::eventfd(0, EFD_CLOEXEC)} {
    CHECK(::ftruncate(ram_.get(), ram_bytes) == 0);
    void* const at = ::mmap(nullptr, ram_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, ram_.get(), 0);
    CHECK(at != MAP_FAILED);
    memory_ = {static_cast<std::byte*>(at), ram_bytes};
    const std::string again = "/proc/self/fd/" + std::to_string(ram_.get());
    read_only_ = unique_fd{::open(again.c_str(), O_RDONLY | O_CLOEXEC)};
    odd_ = unique_fd{::memfd_create("odd", MFD_CLOEXEC)};
    CHECK(::ftruncate(odd_.get(), 5000) == 0);
    device_ = unique_fd{::open("/dev/null", O_RDWR | O_CLOEXEC)};
  }
  files(const files&) = delete;
  files& operator=(const files&) = delete;
  ~files() = default;  // never: it is made once

  void clear() noexcept { std::memset(memory_.data(), 0, memory_.size()); }
  [[nodiscard]] std::span<std::byte> ram() const noexcept { return memory_; }

  [[nodiscard]] int ram_fd() const noexcept { return ram_.get(); }
  [[nodiscard]] int event_fd() const noexcept { return event_.get(); }
  /// Good ones first.
  [[nodiscard]] std::array<int, 8> all() const noexcept {
    return {ram_.get(),   ram_.get(), ram_.get(),       event_.get(),
            event_.get(), odd_.get(), read_only_.get(), device_.get()};
  }

 private:
  unique_fd ram_;
  unique_fd event_;
  unique_fd read_only_;
  unique_fd odd_;
  unique_fd device_;
  std::span<std::byte> memory_;
};

[[nodiscard]] inline files& shared_files() {
  static files all;
  return all;
}

}  // namespace runnel::fuzz
