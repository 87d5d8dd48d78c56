#pragma once

#include <algorithm>
#include <cstring>
#include <memory>
#include <optional>
#include <span>
#include <utility>

#include "drivers/vfio/user_client.h"
#include "drivers/vfio_user/server.h"
#include "tests/sim/echo_device.h"

namespace runnel::sim {

/// The vfio-user client against our own server and the echo device, in one thread over a channel in
/// memory, whose `seed` decides how messages are cut. The test drives both sides.
class echo_over_vfio_user {
 public:
  explicit echo_over_vfio_user(std::uint64_t seed)
      : server_{*vfio_user::server::create(device_, {})} {
    auto [near, far] = vfio_user::memory_channel_pair(seed);
    server_->attach(std::move(far));
    client_ = std::make_unique<vfio::user_client>(std::move(near),
                                                  vfio::client_options{.object = "echo"});
  }
  echo_over_vfio_user(const echo_over_vfio_user&) = delete;
  echo_over_vfio_user& operator=(const echo_over_vfio_user&) = delete;
  ~echo_over_vfio_user() {
    client_.reset();
    while (server_->state() != vfio_user::server_state::idle) {
      server_->advance(now_);
    }
  }

  [[nodiscard]] vfio::device_transport& transport() { return *client_; }
  [[nodiscard]] vfio::iommu_domain& domain() { return *client_; }

  /// Both sides do what they can do now. Time stands still.
  void turn() {
    client_->advance(now_);
    server_->advance(now_);
  }
  /// Time passes; nothing else happens before the next turn.
  void pass(nanoseconds duration) { now_ += duration; }

  // The device's side.

  /// A word of BAR0 as the device has it.
  [[nodiscard]] std::uint32_t device_word(std::uint64_t offset) {
    std::uint32_t word = 0;
    std::memcpy(&word, device_.bar().data() + offset, sizeof(word));
    return word;
  }
  void set_device_word(std::uint64_t offset, std::uint32_t value) {
    std::memcpy(device_.bar().data() + offset, &value, sizeof(value));
  }
  /// The device raises a vector of MSI-X.
  void raise(std::uint32_t vector) { device_.raise(vector); }
  /// The device reads or writes memory at a bus address. @return false when it may not
  [[nodiscard]] bool device_reads(iova first, std::span<std::byte> into) {
    if (const auto* const there = resolve(first, into.size(), access::read)) {
      std::copy_n(there, into.size(), into.begin());
      return true;
    }
    return finish(server_->dma_read(first, into));
  }
  [[nodiscard]] bool device_writes(iova first, std::span<const std::byte> bytes) {
    if (auto* const there = resolve(first, bytes.size(), access::write)) {
      std::ranges::copy(bytes, there);
      return true;
    }
    return finish(server_->dma_write(first, bytes));
  }
  /// While on, the device answers nothing; what was asked meanwhile is answered afterwards.
  void stall(bool on) { device_.stall(on, *server_); }
  /// The device, or its process, is no more.
  void vanish() { server_->disconnect({{errc::cancelled}, "serve", "echo", {}}); }

 private:
  [[nodiscard]] std::byte* resolve(iova first, std::size_t bytes, access wanted) {
    return device_.memory() == nullptr ? nullptr
                                       : device_.memory()->resolve(first, bytes, wanted).address;
  }
  [[nodiscard]] bool finish(result<ticket> started) {
    if (!started) {
      return false;
    }
    for (;;) {  // both sides are ours and answer
      if (const auto ended = server_->take(*started)) {
        return ended->has_value();
      }
      turn();
    }
  }

  echo_device device_;
  std::unique_ptr<vfio_user::server> server_;
  std::unique_ptr<vfio::user_client> client_;
  instant now_{};
};

}  // namespace runnel::sim
