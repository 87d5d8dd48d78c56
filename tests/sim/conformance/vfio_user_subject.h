#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <utility>

#include "drivers/soft/ram.h"
#include "drivers/vfio/user_client.h"
#include "drivers/vfio_user/channel.h"
#include "mempool/base/units.h"
#include "tests/sim/conformance/subject.h"
#include "tests/sim/served_disk.h"

namespace runnel::sim {

/// Our controller, served by our server to our client, in one thread over a channel in memory.
class vfio_user_subject final : public subject {
 public:
  ~vfio_user_subject() override { close(); }

  void open() override {
    auto [near, far] = vfio_user::memory_channel_pair(seed);
    served_.server->attach(std::move(far));
    client_ = std::make_unique<vfio::user_client>(std::move(near),
                                                  vfio::client_options{.object = "vfio-user:test"});
    while (client_->state() == vfio::transport_state::connecting) {
      turn();
    }
  }
  bool close_device() override {
    close();
    return false;
  }
  void close() override {
    client_.reset();
    while (served_.server->state() != vfio_user::server_state::idle) {
      serve();
    }
  }

  [[nodiscard]] vfio::device_transport& transport() override { return *client_; }
  [[nodiscard]] vfio::iommu_domain& domain() override { return *client_; }
  void turn() override {
    client_->advance(now_ += std::chrono::microseconds{10});
    serve();
  }

 private:
  static constexpr std::uint64_t seed = 1;
  static constexpr std::uint32_t block_bytes = 512;

  void serve() {
    served_.endpoint->poll(now_);
    served_.server->advance(now_);
  }

  std::unique_ptr<block_device> disk_ = std::move(*soft::open_ram("ram:1M", mib, block_bytes));
  served_disk served_{*disk_, 16};
  std::unique_ptr<vfio::user_client> client_;
  instant now_{};
};

}  // namespace runnel::sim
