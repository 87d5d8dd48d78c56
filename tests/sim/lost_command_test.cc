// Goal: when a device loses a command, its driver has ended it before the user's patience does: an
// abort, or a reset, and a status that says so. Method: a coroutine disk over the NVMe driver, each
// with the limits it has by default, and a simulated device that keeps the command.

#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <optional>
#include <span>
#include <utility>

#include "drivers/nvme/controller.h"
#include "mempool/window.h"
#include "runtime/gate.h"
#include "runtime/io/block.h"
#include "runtime/task.h"
#include "tests/sim/core.h"
#include "tests/sim/nvme_transport.h"

namespace runnel {
namespace {

task<> read_block(io::disk& disk, const window& memory, std::span<std::byte> data,
                  std::optional<result<>>& end) {
  end = co_await disk.read(lba{0}, data, memory.memory());
}

/// Time goes on in steps that are small beside all limits. @return whether it came to pass
template <class Done>
bool wait_long_for(sim::core& core, Done&& done) {
  for (int turn = 0; turn < 10'000 && !done(); ++turn) {
    core.loop.turn();
    core.clock.advance_to(core.clock.now() + std::chrono::milliseconds{10});
  }
  return done();
}

struct outcome_of_loss {
  std::optional<result<>> end;
  nanoseconds after{};
  nvme::controller_events events;
};

/// @param abort_helps  the device finds the command when it shall abort it
outcome_of_loss lose_a_command(bool abort_helps) {
  sim::nvme_device device;
  sim::core core;
  window memory{std::move(*window::create({.bytes = 2 * mib, .huge = false}))};
  auto transport = std::make_unique<sim::nvme_transport>(device);
  vfio::iommu_domain& domain = *transport;
  nvme::controller driver{std::move(transport), domain, memory, {}};
  service control{[](void* self, instant now) noexcept {
                    return static_cast<nvme::controller*>(self)->advance(now);
                  },
                  &driver, -1, "driver"};
  EXPECT_TRUE(core.loop.add_service(control));
  EXPECT_TRUE(core.run_until([&] { return driver.state() == nvme::controller_state::ready; }));
  outcome_of_loss seen;
  {
    io::disk disk{core.loop, std::move(*driver.make_queue(8)), driver.info(), {}};
    disk.attach();
    device.faults.hold_io = true;
    device.faults.aborts_nothing = !abort_helps;
    const instant start = core.clock.now();
    gate tasks{core.loop};
    tasks.spawn(read_block(disk, memory, *memory.allocate(4096, 4096), seen.end));
    EXPECT_TRUE(wait_long_for(core, [&] { return tasks.size() == 0; }));
    seen.after = core.clock.now() - start;
    const auto runs = [&] { return driver.state() == nvme::controller_state::ready; };
    EXPECT_TRUE(wait_long_for(core, runs));
    disk.detach();
  }
  seen.events = driver.events();
  core.loop.remove_service(control);
  return seen;
}

TEST(LostCommand, IsEndedByTheDriverBeforeTheDisksDeadline) {
  for (const bool abort_helps : {true, false}) {
    SCOPED_TRACE(abort_helps);
    const outcome_of_loss seen = lose_a_command(abort_helps);
    ASSERT_TRUE(seen.end.has_value() && !seen.end->has_value());
    EXPECT_EQ(seen.end->error().code, errc::bad_status);
    EXPECT_EQ(seen.end->error().detail, static_cast<std::uint32_t>(block_status::aborted));
    EXPECT_LT(seen.after, io::disk_options{}.deadline);
    EXPECT_EQ(seen.events.aborts, 1U);
    EXPECT_EQ(seen.events.resets, abort_helps ? 0U : 1U);
  }
}

}  // namespace
}  // namespace runnel
