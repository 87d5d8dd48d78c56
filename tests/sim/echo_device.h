#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <span>
#include <utility>
#include <vector>

#include "drivers/vfio/uapi/vfio.h"
#include "drivers/vfio_user/device_model.h"
#include "drivers/vfio_user/feature.h"
#include "drivers/vfio_user/server.h"
#include "mempool/base/check.h"
#include "mempool/base/unique_fd.h"

namespace runnel::sim {

/// A device that remembers what is written to it and says it back. BAR0 is one file, reached by
/// messages and, in two areas, by mapping; its first words cannot be written; feature `scratch`
/// keeps eight bytes.
class echo_device final : public vfio_user::device_model {
 public:
  static constexpr std::uint32_t bar_bytes = 0x4000;
  static constexpr std::uint32_t read_only_bytes = 8;
  static constexpr std::uint32_t config_bytes = 256;
  static constexpr std::uint32_t vectors = 20;  // more than one message carries
  static constexpr std::uint32_t scratch = 0x7000;

  echo_device() : file_{::memfd_create("echo", MFD_CLOEXEC)} {
    namespace uapi = vfio::uapi;
    CHECK(::ftruncate(file_.get(), bar_bytes) == 0);
    void* const mapped =
        ::mmap(nullptr, bar_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file_.get(), 0);
    CHECK(mapped != MAP_FAILED);
    bar_ = {static_cast<std::byte*>(mapped), bar_bytes};
    constexpr std::uint32_t read_write = uapi::region_flags::read | uapi::region_flags::write;
    layout_.flags = uapi::device_flags::pci | uapi::device_flags::reset;
    layout_.regions.resize(8);
    layout_.regions[0].flags = read_write;
    layout_.regions[0].size = bar_bytes;
    layout_.regions[0].fd = file_.get();
    layout_.regions[0].areas = {{.offset = 0x1000, .length = 0x1000},
                                {.offset = 0x3000, .length = 0x1000}};
    layout_.regions[7].flags = read_write;
    layout_.regions[7].size = config_bytes;
    layout_.irqs.resize(3);
    layout_.irqs[2] = {.flags = uapi::irq_flags::eventfd, .count = vectors};
  }
  echo_device(const echo_device&) = delete;
  echo_device& operator=(const echo_device&) = delete;
  ~echo_device() override { ::munmap(bar_.data(), bar_.size()); }

  // The device's own side.
  [[nodiscard]] std::span<std::byte> bar() noexcept { return bar_; }
  [[nodiscard]] vfio_user::client_memory* memory() noexcept { return memory_; }
  void raise(std::uint32_t vector) {
    const std::uint64_t one = 1;
    if (eventfds_[vector]) {
      CHECK(::write(eventfds_[vector].get(), &one, sizeof(one)) == sizeof(one));
    }
  }
  void stall(bool on, vfio_user::server& server) {
    stalled_ = on;
    for (const auto id : std::exchange(owed_, {})) {
      server.reply(id, 0);
    }
  }

  [[nodiscard]] const vfio_user::device_layout& init() override { return layout_; }
  void open_device(vfio_user::client_memory& memory) override { memory_ = &memory; }
  [[nodiscard]] bool close_device() override {
    memory_ = nullptr;
    disable_irqs(2);
    return true;
  }
  [[nodiscard]] vfio_user::answer read(vfio_user::request_id id, std::uint32_t region,
                                       std::uint64_t offset, std::span<std::byte> out) override {
    std::ranges::copy(storage(region).subspan(offset, out.size()), out.begin());
    return now_or_later(id);
  }
  [[nodiscard]] vfio_user::answer write(vfio_user::request_id id, std::uint32_t region,
                                        std::uint64_t offset,
                                        std::span<const std::byte> in) override {
    if (region == 0 && offset < read_only_bytes) {
      return vfio_user::answer::refuse(EPERM);
    }
    std::ranges::copy(in, storage(region).subspan(offset).begin());
    return now_or_later(id);
  }
  [[nodiscard]] vfio_user::answer set_irq_triggers(std::uint32_t, std::uint32_t start,
                                                   std::span<unique_fd> eventfds) override {
    std::ranges::move(eventfds, eventfds_.begin() + start);
    return vfio_user::answer::ok();
  }
  void disable_irqs(std::uint32_t) override { eventfds_ = {}; }
  void mask_irq(std::uint32_t, bool) override {}
  [[nodiscard]] vfio_user::answer reset(vfio_user::request_id id) override {
    std::ranges::fill(bar_, std::byte{0});
    config_.fill(std::byte{0});
    return now_or_later(id);
  }
  [[nodiscard]] vfio_user::answer dma_map(vfio_user::request_id id, const region&) override {
    return now_or_later(id);
  }
  [[nodiscard]] vfio_user::answer dma_unmap(vfio_user::request_id id, const region&) override {
    return now_or_later(id);
  }
  [[nodiscard]] vfio_user::answer device_feature(vfio_user::request_id, std::uint32_t flags,
                                                 std::span<std::byte> data) override {
    namespace feature_flags = vfio::uapi::feature_flags;
    if ((flags & feature_flags::feature_mask) != scratch) {
      return vfio_user::answer::refuse(ENOTTY);
    }
    const auto settled = vfio_user::check_feature(
        flags, data.size(), feature_flags::get | feature_flags::set, scratch_.size());
    if (settled) {
      return *settled;
    }
    if ((flags & feature_flags::set) != 0) {
      std::ranges::copy(data.first(scratch_.size()), scratch_.begin());
    } else {
      std::ranges::copy(scratch_, data.begin());
    }
    return vfio_user::answer::ok();
  }

 private:
  [[nodiscard]] std::span<std::byte> storage(std::uint32_t region) noexcept {
    return region == 0 ? bar_ : std::span<std::byte>{config_};
  }
  [[nodiscard]] vfio_user::answer now_or_later(vfio_user::request_id id) {
    if (!stalled_) {
      return vfio_user::answer::ok();
    }
    owed_.push_back(id);
    return vfio_user::answer::later();
  }

  unique_fd file_;
  std::span<std::byte> bar_;
  std::array<std::byte, config_bytes> config_{};
  std::array<std::byte, 8> scratch_{};
  std::array<unique_fd, vectors> eventfds_;
  vfio_user::device_layout layout_;
  vfio_user::client_memory* memory_ = nullptr;
  std::vector<vfio_user::request_id> owed_;
  bool stalled_ = false;
};

}  // namespace runnel::sim
