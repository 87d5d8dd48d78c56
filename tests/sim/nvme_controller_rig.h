#pragma once

#include <gtest/gtest.h>

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "drivers/nvme/controller.h"
#include "mempool/base/clock.h"
#include "mempool/window.h"
#include "tests/sim/nvme_device.h"
#include "tests/sim/nvme_transport.h"

// For tests only.
namespace runnel::nvme {

/// A controller, its device and a clock.
class controller_rig {
 public:
  explicit controller_rig(sim::nvme_device_options device_options = {},
                          controller_options wishes = {},
                          sim::nvme_transport_options transport_options = {})
      : device{std::move(device_options)},
        memory{window::create({.bytes = 16 * mib, .huge = false}).value()},
        free_bytes{memory.free_bytes()} {
    auto made = std::make_unique<sim::nvme_transport>(device, transport_options);
    transport = made.get();
    wishes.name = "sim:0";
    subject = std::make_unique<controller>(std::move(made), *transport, memory, wishes);
  }

  /// Lets time pass until the state is another, and not that of a reset; true when it is `wanted`,
  /// within minutes.
  bool reach(controller_state wanted) {
    const controller_state before = subject->state();
    const instant end = clock.now() + std::chrono::seconds{300};
    while ((subject->state() == before || subject->state() == controller_state::connecting) &&
           clock.now() < end) {
      turn();
    }
    return subject->state() == wanted;
  }

  /// The same, through resets that begin meanwhile.
  bool reach_after_reset(controller_state wanted) {
    const instant end = clock.now() + std::chrono::seconds{300};
    while (subject->state() == controller_state::ready && clock.now() < end) {
      turn();
    }
    return subject->state() == wanted || reach(wanted);
  }

  /// The controller is ready, and so many writes are at the device, which keeps them.
  void begin_load(std::size_t count) {
    ASSERT_TRUE(reach(controller_state::ready));
    queues.push_back(subject->make_queue(static_cast<std::uint32_t>(count)).value());
    device.faults.hold_io = true;
    const auto data = memory.allocate(host_page_bytes, host_page_bytes).value();
    for (std::uint64_t i = 0; i < count; ++i) {
      ASSERT_EQ(submit(block_op::write, i, data, i).state, block_state::pending);
    }
    turn();
    EXPECT_TRUE(completions.empty());
  }

  /// A write by a device that does what it is told.
  void write_and_wait() {
    device.faults.hold_io = false;
    completions.clear();
    const auto data = memory.allocate(host_page_bytes, host_page_bytes).value();
    ASSERT_EQ(submit(block_op::write, 0, data, 0).state, block_state::pending);
    wait_for(1);
    ASSERT_EQ(completions.size(), 1U);
    EXPECT_EQ(completions[0].status, block_status::success);
  }

  void pass(nanoseconds time) {
    for (const instant end = clock.now() + time; clock.now() < end;) {
      turn();
    }
  }

  void turn() {
    for (auto& queue : queues) {
      std::array<block_completion, 64> out;
      const std::size_t count = queue->poll(out);
      completions.insert(completions.end(), out.begin(),
                         out.begin() + static_cast<std::ptrdiff_t>(count));
    }
    const instant next = subject->advance(clock.now());
    if (next != never) {
      clock.advance_to(next);
    }
  }

  block_request submit(block_op op, std::uint64_t first, std::span<std::byte> data,
                       std::uint64_t tag) {
    const segment part{.address = data.data(), .length = data.size(), .memory = &memory.memory()};
    block_request request{
        .tag = tag,
        .segments = &part,
        .segment_count = 1,
        .blocks = static_cast<std::uint32_t>(data.size() / subject->info().block_bytes),
        .first = lba{first},
        .op = op};
    queues[0]->submit({&request, 1});
    queues[0]->flush();
    return request;
  }

  /// Runs until `count` completions are there.
  void wait_for(std::size_t count) {
    for (int i = 0; i < 1000 && completions.size() < count; ++i) {
      turn();
    }
  }

  sim::nvme_device device;
  window memory;
  std::size_t free_bytes;
  virtual_clock clock;
  sim::nvme_transport* transport = nullptr;
  std::unique_ptr<controller> subject;
  std::vector<std::unique_ptr<block_queue>> queues;
  std::vector<block_completion> completions;
};

}  // namespace runnel::nvme
