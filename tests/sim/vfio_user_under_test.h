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
#include "tests/sim/transport_under_test.h"

namespace runnel::sim {

/// The vfio-user client against our own server, in one thread over a channel in memory, whose
/// `seed` decides how messages are cut.
class vfio_user_under_test final : public transport_under_test {
 public:
  explicit vfio_user_under_test(std::uint64_t seed)
      : server_{*vfio_user::server::create(device_, {})} {
    auto [near, far] = vfio_user::memory_channel_pair(seed);
    server_->attach(std::move(far));
    client_ = std::make_unique<vfio::user_client>(std::move(near),
                                                  vfio::client_options{.object = "echo"});
  }
  vfio_user_under_test(const vfio_user_under_test&) = delete;
  vfio_user_under_test& operator=(const vfio_user_under_test&) = delete;
  ~vfio_user_under_test() override {
    client_.reset();
    while (server_->state() != vfio_user::server_state::idle) {
      server_->advance(now_);
    }
  }

  [[nodiscard]] vfio::device_transport& transport() override { return *client_; }
  [[nodiscard]] vfio::iommu_domain& domain() override { return *client_; }

  void turn() override {
    client_->advance(now_);
    server_->advance(now_);
  }
  void pass(nanoseconds duration) override { now_ += duration; }

  [[nodiscard]] std::uint32_t device_word(std::uint64_t offset) override {
    std::uint32_t word = 0;
    std::memcpy(&word, device_.bar().data() + offset, sizeof(word));
    return word;
  }
  void set_device_word(std::uint64_t offset, std::uint32_t value) override {
    std::memcpy(device_.bar().data() + offset, &value, sizeof(value));
  }
  void raise(std::uint32_t vector) override { device_.raise(vector); }
  [[nodiscard]] bool device_reads(iova first, std::span<std::byte> into) override {
    if (const auto* const there = resolve(first, into.size(), access::read)) {
      std::copy_n(there, into.size(), into.begin());
      return true;
    }
    return finish(server_->dma_read(first, into));
  }
  [[nodiscard]] bool device_writes(iova first, std::span<const std::byte> bytes) override {
    if (auto* const there = resolve(first, bytes.size(), access::write)) {
      std::ranges::copy(bytes, there);
      return true;
    }
    return finish(server_->dma_write(first, bytes));
  }
  void stall(bool on) override { device_.stall(on, *server_); }
  void vanish() override { server_->disconnect({{errc::cancelled}, "serve", "echo", {}}); }

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
