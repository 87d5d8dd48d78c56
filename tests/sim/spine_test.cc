// The whole spine in one thread: the NVMe driver against the NVMe controller, with vfio-user over a
// channel in memory between them, on a virtual clock. Method: a seeded mix of commands, checked
// block by block against a model of the disk; everything that happens is hashed with its virtual
// time, so two runs of one seed must agree in every step.

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "apps/perf/workload.h"
#include "drivers/nvme/controller.h"
#include "drivers/soft/ram.h"
#include "drivers/vfio/user_client.h"
#include "drivers/vfio_user/channel.h"
#include "mempool/window.h"
#include "tests/sim/served_disk.h"
#include "tests/sim/trace.h"

namespace runnel {
namespace {

constexpr std::uint32_t block_bytes = 512;
constexpr std::uint64_t disk_blocks = 4096;
constexpr std::uint32_t depth = 16;
constexpr std::uint32_t blocks_max = 24;  // of one command: up to four pages, so PRP lists are used
constexpr std::uint32_t commands_per_life = 5'000;

class spine {
 public:
  explicit spine(std::uint64_t seed)
      : disk_{std::move(*soft::open_ram("ram:2M", disk_blocks * block_bytes, block_bytes))},
        served_{*disk_, depth},
        memory_{std::move(*window::create({.bytes = 8 * mib, .huge = false}))},
        random_{seed} {
    auto [near, far] = vfio_user::memory_channel_pair(seed);
    served_.server->attach(std::move(far));
    auto client = std::make_unique<vfio::user_client>(std::move(near), vfio::client_options{});
    vfio::iommu_domain& domain = *client;
    nvme::controller_options wishes;
    wishes.queue_depth = depth;
    driver_ = std::make_unique<nvme::controller>(std::move(client), domain, memory_, wishes);
    data_ = *memory_.allocate(std::size_t{depth} * blocks_max * block_bytes, 4096);
    content_.resize(disk_blocks * block_bytes);
  }

  /// Bring-up, commands, a reset under load, commands, teardown. @return the hash of all of it
  std::uint64_t live() {
    run_until(nvme::controller_state::ready);
    queue_ = std::move(*driver_->make_queue(depth));
    run_commands(commands_per_life);
    reset_under_load();
    run_commands(commands_per_life);
    EXPECT_TRUE(ended_well_);
    queue_.reset();
    driver_->shutdown();
    run_until(nvme::controller_state::closed);
    driver_.reset();
    while (served_.server->state() != vfio_user::server_state::idle) {
      step();
    }
    trace_.add(static_cast<std::uint64_t>(clock_.now().time_since_epoch().count()));
    return trace_.hash();
  }

  [[nodiscard]] std::uint64_t completed() const noexcept { return completed_; }
  [[nodiscard]] std::uint64_t aborted() const noexcept { return aborted_; }

 private:
  struct command {
    bool in_flight = false;
    block_op op = block_op::read;
    std::uint64_t first = 0;
    std::uint32_t blocks = 0;
  };

  /// Both sides once, and time to the next deadline of either.
  /// @param serve_queues  false: the controller serves registers only
  void step(bool serve_queues = true) {
    const instant now = clock_.now();
    instant next = served_.server->advance(now);
    const std::uint32_t work = serve_queues ? served_.endpoint->poll(now) : 0;
    if (driver_) {
      next = std::min(next, driver_->advance(now));
    }
    trace_.add(work);
    const instant soon = now + std::chrono::microseconds{1};
    clock_.advance_to(work == 0 && next != never ? std::min(next, soon) : soon);
  }

  void run_until(nvme::controller_state wanted) {
    constexpr int steps_max = 1'000'000;
    for (int i = 0; i < steps_max && driver_->state() != wanted; ++i) {
      ASSERT_NE(driver_->state(), nvme::controller_state::failed) << driver_->reason().message();
      step();
    }
    ASSERT_EQ(driver_->state(), wanted);
    trace_.add(static_cast<std::uint64_t>(wanted));
  }

  void run_commands(std::uint64_t count) {
    const std::uint64_t goal = completed_ + count;
    for (int i = 0; i < 1'000'000 && completed_ < goal; ++i) {
      submit_some();
      step();
      collect();
    }
    drain();
    ASSERT_GE(completed_, goal);
  }

  void drain() {
    for (int i = 0; i < 100'000 && in_flight() != 0; ++i) {
      step();
      collect();
    }
    ASSERT_EQ(in_flight(), 0U);
  }

  void reset_under_load() {
    submit_some();
    ASSERT_NE(in_flight(), 0U);
    ASSERT_TRUE(driver_->reset());
    for (int i = 0; i < 200; ++i) {  // the controller hears of the reset before it looks at queues
      step(false);
    }
    resetting_ = true;
    for (int i = 0;
         i < 1'000'000 && (driver_->state() != nvme::controller_state::ready || in_flight() != 0);
         ++i) {
      step();
      collect();
    }
    resetting_ = false;
    ASSERT_EQ(driver_->state(), nvme::controller_state::ready);
    rewrite_everything();  // what an aborted write left behind is unknown
  }

  void rewrite_everything() {
    for (std::uint64_t first = 0; first < disk_blocks; first += blocks_max) {
      const auto blocks =
          static_cast<std::uint32_t>(std::min<std::uint64_t>(blocks_max, disk_blocks - first));
      start(0, {.in_flight = true, .op = block_op::write, .first = first, .blocks = blocks});
      drain();
    }
  }

  void submit_some() {
    const std::uint64_t burst = 1 + random_.below(depth);
    for (std::uint32_t slot = 0; slot < burst; ++slot) {
      if (!commands_[slot].in_flight) {
        const std::uint64_t kind = random_.below(16);
        command next{.in_flight = true};
        next.op = kind == 0 ? block_op::flush : kind < 8 ? block_op::write : block_op::read;
        next.blocks = next.op == block_op::flush
                          ? 0
                          : 1 + static_cast<std::uint32_t>(random_.below(blocks_max));
        next.first = next.op == block_op::flush ? 0 : random_.below(disk_blocks - next.blocks);
        if (!overlaps_one_in_flight(next)) {
          start(slot, next);
        }
      }
    }
    queue_->flush();
  }

  [[nodiscard]] bool overlaps_one_in_flight(const command& next) const {
    return std::any_of(commands_.begin(), commands_.end(), [&next](const command& other) {
      return other.in_flight && ranges_overlap(other.first, other.blocks, next.first, next.blocks);
    });
  }

  void start(std::uint32_t slot, const command& next) {
    const std::span<std::byte> data = data_of(slot, next);
    std::uint64_t mark = random_.next();
    for (std::byte& byte : data) {
      byte = next.op == block_op::write ? static_cast<std::byte>(mark) : std::byte{0xee};
      mark = (mark >> 1U) ^ (mark << 63U);
    }
    const segment whole{.address = data.data(), .length = data.size(), .memory = &memory_.memory()};
    block_request request;
    request.tag = slot;
    request.segments = &whole;
    request.segment_count = next.op == block_op::flush ? 0 : 1;
    request.blocks = next.blocks;
    request.first = lba{next.first};
    request.op = next.op;
    request.force_unit_access = next.op == block_op::write && (mark & 1U) != 0;
    queue_->submit(std::span{&request, 1});
    if (request.state == block_state::pending) {
      commands_[slot] = next;
      queue_->flush();
    }
  }

  void collect() {
    std::array<block_completion, depth> done{};
    const std::size_t count = queue_->poll(done);
    for (const block_completion& one : std::span{done}.first(count)) {
      command& ended = commands_.at(one.tag);
      ASSERT_TRUE(ended.in_flight);
      ended.in_flight = false;
      trace_.add(one.tag);
      trace_.add(static_cast<std::uint64_t>(one.status));
      if (one.status != block_status::success) {
        ASSERT_TRUE(resetting_);
        ++aborted_;
        continue;
      }
      ++completed_;
      check(static_cast<std::uint32_t>(one.tag), ended);
    }
  }

  void check(std::uint32_t slot, const command& ended) {
    const std::span<std::byte> data = data_of(slot, ended);
    std::byte* const there = content_.data() + (ended.first * block_bytes);
    if (ended.op == block_op::write) {
      std::copy(data.begin(), data.end(), there);
    } else if (!resetting_ && std::memcmp(data.data(), there, data.size()) != 0) {
      ended_well_ = false;
    }
  }

  [[nodiscard]] std::span<std::byte> data_of(std::uint32_t slot, const command& of) const {
    return data_.subspan(std::size_t{slot} * blocks_max * block_bytes,
                         std::size_t{of.blocks} * block_bytes);
  }
  [[nodiscard]] std::size_t in_flight() const {
    return static_cast<std::size_t>(std::count_if(commands_.begin(), commands_.end(),
                                                  [](const command& c) { return c.in_flight; }));
  }

  virtual_clock clock_;
  std::unique_ptr<block_device> disk_;
  sim::served_disk served_;
  window memory_;
  perf::random_stream random_;
  std::unique_ptr<nvme::controller> driver_;
  std::unique_ptr<block_queue> queue_;
  std::span<std::byte> data_;
  std::vector<std::byte> content_;
  std::array<command, depth> commands_{};
  sim::trace trace_;
  std::uint64_t completed_ = 0;
  std::uint64_t aborted_ = 0;
  bool resetting_ = false;
  bool ended_well_ = true;
};

constexpr std::array<std::uint64_t, 4> seeds{1, 2, 3, 20261121};

TEST(Spine, TenThousandMixedCommandsWithAResetInBetweenAreRightAndRepeatable) {
  for (const std::uint64_t seed : seeds) {
    SCOPED_TRACE(seed);
    spine first{seed};
    const std::uint64_t hash = first.live();
    EXPECT_GE(first.completed(), 2U * commands_per_life);
    EXPECT_GT(first.aborted(), 0U) << "the reset found nothing to abort";
    EXPECT_EQ(spine{seed}.live(), hash) << "one seed must give one trace";
  }
}

TEST(Spine, AnotherSeedTakesAnotherWay) {
  EXPECT_NE(spine{seeds[0]}.live(), spine{seeds[1]}.live());
}

}  // namespace
}  // namespace runnel
