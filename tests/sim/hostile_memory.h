#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "apps/target/guest_memory.h"
#include "mempool/region.h"

namespace runnel::sim {

/// A host's memory of which each page is a region of its own: pages leave and return, and somebody
/// is told of each page that is looked for, before it is used.
class hostile_memory final : public target::guest_memory {
 public:
  static constexpr std::uint64_t base = 0x10'0000'0000;
  static constexpr std::uint64_t page_bytes = 4096;

  explicit hostile_memory(std::size_t pages)
      : bytes_((pages + 1) * page_bytes), present_(pages, true) {
    void* first = bytes_.data();
    std::size_t space = bytes_.size();
    first_ = static_cast<std::byte*>(std::align(page_bytes, pages * page_bytes, first, space));
    for (std::size_t i = 0; i < pages; ++i) {
      regions_.push_back({.address = first_ + i * page_bytes,
                          .length = page_bytes,
                          .permissions = access::read_write});
    }
  }

  /// Is given the address; what it changes is what a host changes while it is being read.
  std::function<void(std::uint64_t)> on_find;

  [[nodiscard]] static std::uint64_t page(std::size_t number) { return base + number * page_bytes; }
  [[nodiscard]] static std::size_t page_of(std::uint64_t address) {
    return static_cast<std::size_t>((address - base) / page_bytes);
  }
  [[nodiscard]] std::uint64_t end() const { return page(present_.size()); }

  /// The host's own view, whatever it has given away.
  [[nodiscard]] std::byte* at(std::uint64_t address) const { return first_ + (address - base); }
  [[nodiscard]] std::span<std::byte> page_at(std::size_t number) const {
    return {at(page(number)), page_bytes};
  }

  void set_present(std::size_t number, bool present) { present_.at(number) = present; }
  [[nodiscard]] bool present(std::size_t number) const { return present_.at(number); }

  [[nodiscard]] target::memory_run run_at(iova first, access) const noexcept override {
    if (!reaches(raw(first))) {
      return {};
    }
    const region& found = regions_[page_of(raw(first))];
    std::byte* const here = at(raw(first));
    if (on_find) {
      on_find(raw(first));
    }
    return {here, static_cast<std::uint64_t>(found.address + found.length - here), &found};
  }

 private:
  [[nodiscard]] bool reaches(std::uint64_t address) const {
    return address >= base && address < end() && present_[page_of(address)];
  }

  std::vector<std::byte> bytes_;
  std::byte* first_ = nullptr;
  std::vector<region> regions_;
  std::vector<bool> present_;
};

}  // namespace runnel::sim
