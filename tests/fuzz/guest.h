#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "apps/target/guest_memory.h"
#include "mempool/base/checked.h"
#include "mempool/base/poison.h"
#include "mempool/base/units.h"

namespace runnel::fuzz {

/// Memory of a host, in banks that come and go while a controller uses them. What is not there is
/// poisoned, so that the sanitizer sees every touch of it, and of what has left.
class guest final : public target::guest_memory {
 public:
  static constexpr std::uint64_t base = 0x10'0000'0000;
  static constexpr std::size_t bank_bytes = 16 * kib;
  static constexpr std::size_t banks = 8;
  static constexpr std::size_t bytes = banks * bank_bytes;
  static constexpr std::size_t pages = bytes / 4096;

  guest() {
    unpoison(arena());
    std::memset(memory_.data(), 0, bytes);
    poison(arena());
    for (std::size_t i = 0; i < banks; ++i) {
      regions_[i] = {.address = memory_.data() + i * bank_bytes, .length = bank_bytes};
    }
  }
  guest(const guest&) = delete;
  guest& operator=(const guest&) = delete;
  ~guest() override { unpoison(arena()); }

  [[nodiscard]] bool present(std::size_t bank) const noexcept { return there_[bank]; }
  void add(std::size_t bank, access permissions) noexcept {
    there_[bank] = true;
    regions_[bank].permissions = permissions;
    unpoison(bank_at(bank));
  }
  /// Nothing resolves to it any more; commands in flight may still touch it.
  void withdraw(std::size_t bank) noexcept { there_[bank] = false; }
  /// It is gone. @pre withdrawn
  void release(std::size_t bank) noexcept { poison(bank_at(bank)); }

  /// What the host itself writes; it reaches only what is there.
  void write(std::uint64_t address, std::span<const std::byte> in) noexcept {
    if (std::byte* const at = resolve(iova{address}, in.size(), access::none)) {
      std::ranges::copy(in, at);
    }
  }
  template <class T>
  [[nodiscard]] bool read(std::uint64_t address, T& out) const noexcept {
    const std::byte* const at = resolve(iova{address}, sizeof out, access::none);
    if (at != nullptr) {
      std::memcpy(&out, at, sizeof out);
    }
    return at != nullptr;
  }

  [[nodiscard]] target::memory_run run_at(iova first, access wanted) const noexcept override {
    const std::uint64_t offset = raw(first) - base;
    const std::size_t bank = offset / bank_bytes;
    if (offset >= bytes || !there_[bank] || !allows(regions_[bank].permissions, wanted)) {
      return {};
    }
    const std::uint64_t inside = offset % bank_bytes;
    return {regions_[bank].address + inside, bank_bytes - inside, &regions_[bank]};
  }

 private:
  [[nodiscard]] static std::span<std::byte> arena() noexcept { return memory_; }
  [[nodiscard]] static std::span<std::byte> bank_at(std::size_t bank) noexcept {
    return arena().subspan(bank * bank_bytes, bank_bytes);
  }

  alignas(4096) inline static std::array<std::byte, bytes> memory_;  // one guest at a time
  std::array<region, banks> regions_;
  std::array<bool, banks> there_{};
};

}  // namespace runnel::fuzz
