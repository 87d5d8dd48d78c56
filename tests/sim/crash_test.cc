// Goal: flush means flush: no crash of a disk loses what it was told to keep, however deep the
// disk lies. Method: tasks on a coroutine disk over the NVMe driver, vfio-user in memory, the NVMe
// controller and a disk that does at a crash what disks may do; then the same disk again behind a
// new stack, read through it and judged block by block. The same must find disks that lie.

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "apps/perf/workload.h"
#include "drivers/nvme/controller.h"
#include "drivers/vfio/user_client.h"
#include "drivers/vfio_user/channel.h"
#include "mempool/window.h"
#include "runtime/gate.h"
#include "runtime/io/block.h"
#include "runtime/task.h"
#include "tests/sim/block_checker.h"
#include "tests/sim/core.h"
#include "tests/sim/faulty_disk.h"
#include "tests/sim/seeds.h"
#include "tests/sim/served_disk.h"
#include "tests/sim/trace.h"

namespace runnel {
namespace {

constexpr std::uint32_t depth = 8;
constexpr std::uint32_t users = 6;
constexpr std::uint32_t blocks_max = 6;
constexpr std::uint64_t block_count = 48;
constexpr std::uint64_t seeds = 200;
constexpr std::uint64_t seeds_of_bugs = 20;
constexpr std::uint64_t crashes_per_seed = 5;
constexpr std::uint64_t turns_max = 500;  // before a crash; the fewest requests take some 10

/// From the tasks' disk down to the disk that crashes, on one simulated core.
class stack {
 public:
  stack(sim::faulty_disk& bottom, std::uint64_t seed)
      : served_{bottom, depth},
        memory_{std::move(*window::create({.bytes = 2 * mib, .huge = false}))},
        driver_service_{[](void* self, instant now) noexcept {
                          return static_cast<stack*>(self)->driver_->advance(now);
                        },
                        this, -1, "driver"},
        server_service_{[](void* self, instant now) noexcept {
                          return static_cast<stack*>(self)->served_.server->advance(now);
                        },
                        this, -1, "server"} {
    auto [near, far] = vfio_user::memory_channel_pair(seed);
    served_.server->attach(std::move(far));
    auto client = std::make_unique<vfio::user_client>(std::move(near), vfio::client_options{});
    vfio::iommu_domain& domain = *client;
    driver_ = std::make_unique<nvme::controller>(std::move(client), domain, memory_,
                                                 nvme::controller_options{.queue_depth = depth});
    core.loop.add_source({poll_target, this, "target"});
    EXPECT_TRUE(core.loop.add_service(driver_service_));
    EXPECT_TRUE(core.loop.add_service(server_service_));
    EXPECT_TRUE(reaches(nvme::controller_state::ready));
    disk.emplace(core.loop, std::move(*driver_->make_queue(depth)), driver_->info(),
                 io::disk_options{});
    disk->attach();
  }
  stack(const stack&) = delete;
  stack& operator=(const stack&) = delete;
  ~stack() {
    disk->detach();
    driver_->shutdown();
    EXPECT_TRUE(reaches(nvme::controller_state::closed));
    disk.reset();
    core.loop.remove_service(driver_service_);
    driver_.reset();
    EXPECT_TRUE(core.run_until(
        [this] { return served_.server->state() == vfio_user::server_state::idle; }));
    core.loop.remove_service(server_service_);
    core.loop.remove_source(this);
  }

  [[nodiscard]] window& memory() noexcept { return memory_; }

  sim::core core;
  std::optional<io::disk> disk;

 private:
  static std::uint32_t poll_target(void* self) noexcept {
    auto& on = *static_cast<stack*>(self);
    return on.served_.endpoint->poll(on.core.loop.now());
  }
  [[nodiscard]] bool reaches(nvme::controller_state wanted) {
    return core.run_until([&] { return driver_->state() == wanted; });
  }

  sim::served_disk served_;
  window memory_;
  std::unique_ptr<nvme::controller> driver_;
  service driver_service_;
  service server_service_;
};

/// What the tasks of one life share.
struct life {
  stack& on;
  sim::block_checker& checker;
  perf::random_stream& random;
  sim::trace& trace;
  std::uint32_t block_bytes;
  bool over = false;  // power is lost: what ends now tells nothing

  [[nodiscard]] bool note(const result<>& end) {
    trace.add(static_cast<std::uint64_t>(on.core.clock.now().time_since_epoch().count()));
    EXPECT_TRUE(end.has_value());
    return !over;
  }
};

task<> write_some(life& of, std::span<std::byte> memory, std::uint64_t first,
                  io::durability wanted) {
  const auto one =
      of.checker.begin_write(first, static_cast<std::uint32_t>(memory.size() / of.block_bytes));
  of.checker.fill(one, memory);
  const auto end = co_await of.on.disk->write(lba{first}, memory, of.on.memory().memory(), wanted);
  if (of.note(end)) {
    of.checker.end_write(one, true, wanted == io::durability::durable);
  }
}

task<> zero_some(life& of, std::uint32_t blocks, std::uint64_t first, io::durability wanted) {
  const auto one = of.checker.begin_write(first, blocks, true);
  const auto end = co_await of.on.disk->write_zeroes(lba{first}, blocks, wanted);
  if (of.note(end)) {
    of.checker.end_write(one, true, wanted == io::durability::durable);
  }
}

task<> read_some(life& of, std::span<std::byte> memory, std::uint64_t first) {
  const auto one = of.checker.begin_read(first);
  const auto end = co_await of.on.disk->read(lba{first}, memory, of.on.memory().memory());
  if (of.note(end)) {
    of.checker.end_read(one, memory);
  }
}

task<> flush_all(life& of) {
  const std::uint64_t began = of.checker.begin_flush();
  const auto end = co_await of.on.disk->flush();
  if (of.note(end)) {
    of.checker.end_flush(began);
  }
}

/// One of several users, until the crash.
task<> use(life& of, std::span<std::byte> memory) {
  while (!of.over) {
    const std::uint64_t kind = of.random.below(16);
    const auto blocks = static_cast<std::uint32_t>(1 + of.random.below(blocks_max));
    const std::uint64_t first = of.random.below(block_count - blocks);
    const auto wanted = of.random.below(4) == 0 ? io::durability::durable : io::durability::cached;
    const auto part = memory.first(std::size_t{blocks} * of.block_bytes);
    if (kind == 0) {
      co_await flush_all(of);
    } else if (kind == 1) {
      co_await zero_some(of, blocks, first, wanted);
    } else if (kind < 10) {
      co_await write_some(of, part, first, wanted);
    } else {
      co_await read_some(of, part, first);
    }
  }
}

task<> read_all(life& of, std::span<std::byte> memory) {
  for (std::uint64_t first = 0; first < block_count; first += blocks_max) {
    const auto part = memory.subspan(first * of.block_bytes, blocks_max * of.block_bytes);
    const auto end = co_await of.on.disk->read(lba{first}, part, of.on.memory().memory());
    EXPECT_TRUE(end.has_value());
  }
}

struct history {
  std::uint64_t wrong = 0;  // blocks that were lost, or were never right
  std::string first_wrong;
  std::uint64_t dropped = 0;
  std::uint64_t torn = 0;
  std::uint64_t hash = 0;
};

/// One disk through several crashes.
class crashing_disk {
 public:
  explicit crashing_disk(const sim::faulty_disk_options& options)
      : options_{options},
        random_{options.seed},
        checker_{{options.block_bytes, options.sector_bytes, block_count}} {}

  history live() {
    for (std::uint64_t i = 0; i < crashes_per_seed; ++i) {
      live_until_crash();
    }
    judge_what_is_left();
    return {checker_.wrong(), checker_.first_wrong(), lost_.dropped, lost_.torn, trace_.hash()};
  }

 private:
  void live_until_crash() {
    sim::faulty_disk bottom = power_up();
    stack on{bottom, options_.seed};
    life now{on, checker_, random_, trace_, options_.block_bytes};
    gate tasks{on.core.loop};
    read_everything(now, tasks);
    const std::size_t bytes = std::size_t{blocks_max} * options_.block_bytes;
    const auto memory = *on.memory().allocate(users * bytes, 4096);
    for (std::size_t i = 0; i < users; ++i) {
      tasks.spawn(use(now, memory.subspan(i * bytes, bytes)));
    }
    std::uint64_t turns = 10 + random_.below(turns_max);
    EXPECT_TRUE(on.core.run_until([&] { return turns-- == 0; }));
    left_ = bottom.crash();
    lost_.dropped += bottom.lost.dropped;
    lost_.torn += bottom.lost.torn;
    now.over = true;  // nothing that the rest of the stack does now reaches what is left
    EXPECT_TRUE(on.core.run_until([&] { return tasks.size() == 0; }));
  }

  void judge_what_is_left() {
    sim::faulty_disk bottom = power_up();
    stack on{bottom, options_.seed};
    life now{on, checker_, random_, trace_, options_.block_bytes};
    gate tasks{on.core.loop};
    read_everything(now, tasks);
  }

  sim::faulty_disk power_up() {
    options_.seed = random_.next();
    return sim::faulty_disk{options_, left_};
  }

  void read_everything(life& now, gate& tasks) {
    const auto all = *now.on.memory().allocate(block_count * options_.block_bytes, 4096);
    tasks.spawn(read_all(now, all));
    EXPECT_TRUE(now.on.core.run_until([&] { return tasks.size() == 0; }));
    checker_.recover(all);
    now.on.memory().release(all);
  }

  sim::faulty_disk_options options_;
  perf::random_stream random_;
  sim::block_checker checker_;
  sim::trace trace_;
  std::vector<std::byte> left_;  // on the medium
  sim::volatile_blocks::loss lost_;
};

/// Blocks of one sector or of eight, and of the latter half are torn by a crash.
sim::faulty_disk_options disk_of(std::uint64_t seed) {
  const std::uint32_t block_bytes = seed % 2 == 0 ? 512 : 4096;
  return {.block_bytes = block_bytes,
          .block_count = block_count,
          .sector_bytes = seed % 4 == 1 ? 512 : block_bytes,
          .seed = seed,
          .refused = 8};
}

TEST(Crash, AThousandCrashesLoseNothingThatWasFlushedOrForced) {
  std::uint64_t dropped = 0;
  std::uint64_t torn = 0;
  const std::uint64_t run = sim::for_each_seed(seeds, [&](std::uint64_t seed) {
    const history one = crashing_disk{disk_of(seed)}.live();
    EXPECT_EQ(one.wrong, 0U) << one.first_wrong;
    dropped += one.dropped;
    torn += one.torn;
  });
  fmt::print("{} crashes: {} blocks dropped, {} torn, 0 of them durable\n", run * crashes_per_seed,
             dropped, torn);
  EXPECT_GE(dropped, run);
  EXPECT_GE(torn, run / 2);
}

/// For how many seeds the test above would have failed, had their disks been built wrong.
std::uint64_t found_with(bool sim::faulty_disk_options::* bug) {
  std::uint64_t found = 0;
  const std::uint64_t run = sim::for_each_seed(seeds_of_bugs, [&](std::uint64_t seed) {
    sim::faulty_disk_options options = disk_of(seed);
    options.*bug = true;
    found += crashing_disk{options}.live().wrong != 0 ? 1U : 0U;
  });
  fmt::print("blocks were lost with {} of {} seeds\n", found, run);
  return found;
}

TEST(Crash, ADiskWhoseFlushDoesNothingLosesBlocks) {
  EXPECT_GT(found_with(&sim::faulty_disk_options::flush_does_nothing), 0U);
}

TEST(Crash, ADiskWhoseForcedWritesAreVolatileLosesBlocks) {
  EXPECT_GT(found_with(&sim::faulty_disk_options::force_does_nothing), 0U);
}

TEST(Crash, OneSeedHasOneHistory) {
  for (std::uint64_t seed = 1; seed <= 4; ++seed) {
    EXPECT_EQ(crashing_disk{disk_of(seed)}.live().hash, crashing_disk{disk_of(seed)}.live().hash);
  }
  EXPECT_NE(crashing_disk{disk_of(1)}.live().hash, crashing_disk{disk_of(5)}.live().hash);
}

}  // namespace
}  // namespace runnel
