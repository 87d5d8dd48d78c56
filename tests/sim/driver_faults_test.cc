// Goal: whatever goes wrong at an NVMe device, each request of the driver's user ends once and
// means what it says, memory that was handed back is not touched, and the driver comes to an end of
// it: it runs again, or says why not. Method: a seeded device that is late, wrong or dead, a seeded
// user, hours of a virtual clock; every block that is read is judged.

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <memory>
#include <utility>
#include <vector>

#include "drivers/nvme/controller.h"
#include "drivers/nvme/queue_pair.h"
#include "mempool/window.h"
#include "tests/sim/block_checker.h"
#include "tests/sim/bytes.h"
#include "tests/sim/faulty_nvme_device.h"
#include "tests/sim/nvme_transport.h"
#include "tests/sim/seeds.h"
#include "tests/sim/trace.h"

namespace runnel {
namespace {

using nvme::controller_state;
using sim::driver_fault;

constexpr std::uint64_t seeds = 2000;
constexpr std::uint32_t slots = 20;  // more than the queue takes
constexpr std::uint32_t depth = 16;
constexpr std::uint32_t blocks_max = 8;
constexpr std::uint64_t block_count = 64;
constexpr int turns_of_load = 250;
constexpr int turns_to_settle = 20'000;
constexpr nanoseconds io_limit = std::chrono::milliseconds{800};

sim::nvme_device_options device_of(std::uint64_t seed) {
  sim::nvme_device_options made;
  made.block_shift = seed % 2 == 0 ? 9 : 12;
  made.block_count = block_count;
  made.mdts = seed % 3 == 0 ? 1 : 5;  // requests become several commands
  made.doorbell_shift = seed % 5 == 0 ? 3 : 0;
  made.oncs = nvme::oncs_write_zeroes;
  made.shadow_doorbells = seed % 4 == 0;
  return made;
}

class user {
 public:
  user(std::uint64_t seed, sim::driver_fault_counts& counts)
      : random_{~seed},
        counts_{counts},
        faulty_{device_of(seed), seed, io_limit, counts},
        memory_{std::move(*window::create({.bytes = 4 * mib, .huge = false}))},
        block_bytes_{1U << faulty_.device.options.block_shift},
        checker_{{block_bytes_, block_bytes_, block_count, false}},
        data_{*memory_.allocate(std::size_t{slots} * blocks_max * block_bytes_, 4096)} {
    auto transport = std::make_unique<sim::nvme_transport>(
        faulty_.device, sim::nvme_transport_options{.map_doorbells = seed % 7 != 0});
    vfio::iommu_domain& domain = *transport;
    driver_ = std::make_unique<nvme::controller>(
        std::move(transport), domain, memory_,
        nvme::controller_options{.queue_depth = depth,
                                 .io_limit = io_limit,
                                 .admin_limit = std::chrono::seconds{2},
                                 .answer_limit = std::chrono::milliseconds{500}});
    sim::fill(data_, untouched);
  }

  /// @return the hash of all that happened
  std::uint64_t live() {
    settle([this] { return driver_->state() != controller_state::connecting; });
    if (driver_->state() != controller_state::ready) {
      ADD_FAILURE() << driver_->reason().message();
      return 0;
    }
    faulty_.begin_mistakes();
    queue_ = std::move(*driver_->make_queue(depth));
    for (int i = 0; i < turns_of_load && driver_->state() != controller_state::failed; ++i) {
      submit_some();
      turn();
    }
    faulty_.calm_down();
    settle([this] { return in_flight() == 0; });
    EXPECT_EQ(in_flight(), 0U);
    turn();
    expect_nonsense_was_counted();
    shut_down();
    expect_untouched(data_);
    EXPECT_EQ(checker_.wrong(), 0U) << checker_.first_wrong();
    return trace_.hash();
  }

 private:
  static constexpr std::byte untouched{0xa5};

  struct command {
    block_op op = block_op::flush;
    bool in_flight = false;
    sim::block_checker::write write;
    sim::block_checker::read read;
    std::span<std::byte> data;
  };

  void submit_some() {
    for (std::uint64_t tries = random_.below(4); tries > 0; --tries) {
      const std::uint64_t slot = random_.below(slots);
      if (!commands_[slot].in_flight) {
        start(slot);
      }
    }
    queue_->flush();
    if (in_flight() != 0 && random_.below(128) == 0 && driver_->reset()) {
      reset_ = true;
      counts_.add(driver_fault::reset);
    }
  }

  void start(std::uint64_t slot) {
    command& one = commands_[slot];
    constexpr std::array kinds{block_op::read,  block_op::read,  block_op::write,
                               block_op::write, block_op::write, block_op::write_zeroes,
                               block_op::flush};
    one.op = kinds[random_.below(kinds.size())];
    const auto blocks = static_cast<std::uint32_t>(1 + random_.below(blocks_max));
    const std::uint64_t first = random_.below(block_count - blocks);
    const std::size_t slot_bytes = std::size_t{blocks_max} * block_bytes_;
    one.data = data_.subspan(slot * slot_bytes, std::size_t{blocks} * block_bytes_);
    expect_untouched(one.data);
    const segment whole{one.data.data(), one.data.size(), &memory_.memory()};
    block_request request{.tag = slot,
                          .segments = &whole,
                          .segment_count = has_data(one.op) ? 1U : 0U,
                          .blocks = one.op == block_op::flush ? 0 : blocks,
                          .first = lba{one.op == block_op::flush ? 0 : first},
                          .op = one.op};
    begin(one, first, blocks);
    queue_->submit({&request, 1});
    one.in_flight = request.state == block_state::pending;
    if (!one.in_flight) {
      expect_a_reason(request);
      give_up(one);
    }
  }

  void begin(command& one, std::uint64_t first, std::uint32_t blocks) {
    if (changes_data(one.op)) {
      one.write = checker_.begin_write(first, blocks, one.op == block_op::write_zeroes);
    }
    if (one.op == block_op::write) {
      checker_.fill(one.write, one.data);
    } else if (one.op == block_op::read) {
      one.read = checker_.begin_read(first);
    }
  }

  /// Requests that were not taken: there is no room, or there is no device.
  void expect_a_reason(const block_request& request) {
    if (request.state == block_state::done) {
      EXPECT_EQ(request.status, block_status::device_gone);
      EXPECT_EQ(driver_->state(), controller_state::failed);
    } else if (driver_->state() == controller_state::ready) {
      counts_.add(driver_fault::queue_full);
      EXPECT_GE(in_flight(), 1U);
    }
  }
  void give_up(const command& one) {
    if (changes_data(one.op)) {
      checker_.withdraw(one.write);
    } else if (one.op == block_op::read) {
      checker_.drop_read(one.read);
    }
    sim::fill(one.data, untouched);
  }

  /// Time goes on to what happens next; while the driver waits, in growing steps.
  void turn() {
    const std::uint64_t completed = completed_;
    const instant now = clock_.now();
    instant next = driver_->advance(now);
    faulty_.step(now);
    if (queue_) {
      collect();
    }
    trace_.add(static_cast<std::uint64_t>(driver_->state()));
    pause_ = completed == completed_
                 ? std::min<nanoseconds>(2 * pause_, std::chrono::milliseconds{50})
                 : std::chrono::microseconds{10};
    next = std::min(next, faulty_.next());
    clock_.advance_to(next == never ? now + pause_ : std::max(next, now + pause_));
  }
  template <class Done>
  void settle(Done&& done) {
    for (int i = 0; i < turns_to_settle && !done(); ++i) {
      turn();
    }
  }

  void collect() {
    std::array<block_completion, 64> ended;
    for (const block_completion& each : std::span{ended}.first(queue_->poll(ended))) {
      command& one = commands_.at(each.tag);
      EXPECT_TRUE(one.in_flight) << "request " << each.tag << " ended twice";
      one.in_flight = false;
      ++completed_;
      trace_.add(each.tag << 16U | static_cast<std::uint64_t>(each.status));
      trace_.add(static_cast<std::uint64_t>(clock_.now().time_since_epoch().count()));
      finish(one, each.status);
    }
  }

  void finish(const command& one, block_status status) {
    const bool success = status == block_status::success;
    if (status == block_status::device_gone) {
      EXPECT_EQ(driver_->state(), controller_state::failed);
    }
    if (changes_data(one.op)) {
      checker_.end_write(one.write, success);
    } else if (one.op == block_op::read && success) {
      checker_.end_read(one.read, one.data);
    } else if (one.op == block_op::read) {
      checker_.drop_read(one.read);
    }
    sim::fill(one.data, untouched);
  }

  /// What is ours again must stay as we left it.
  void expect_untouched(std::span<const std::byte> data) const {
    EXPECT_TRUE(sim::holds_only(data, untouched));
  }

  /// All that the device said of commands that were not there, unless a reset swept some away.
  void expect_nonsense_was_counted() const {
    const std::uint64_t heard = static_cast<const nvme::queue_pair&>(*queue_).bogus_completions();
    if (reset_ || driver_->events().resets != 0 || driver_->state() == controller_state::failed) {
      EXPECT_LE(heard, faulty_.bogus);
    } else {
      EXPECT_EQ(heard, faulty_.bogus);
    }
  }

  void shut_down() {
    queue_.reset();
    driver_->shutdown();
    settle([this] { return driver_->state() != controller_state::closing; });
    const bool ended =
        driver_->state() == controller_state::closed ||
        (driver_->state() == controller_state::failed && !driver_->reason().message().empty());
    EXPECT_TRUE(ended);
    driver_.reset();
  }

  [[nodiscard]] std::size_t in_flight() const {
    return static_cast<std::size_t>(std::ranges::count_if(commands_, &command::in_flight));
  }

  perf::random_stream random_;
  sim::driver_fault_counts& counts_;
  sim::faulty_nvme_device faulty_;
  window memory_;
  std::uint32_t block_bytes_;
  sim::block_checker checker_;
  std::span<std::byte> data_;
  virtual_clock clock_;
  std::unique_ptr<nvme::controller> driver_;
  std::unique_ptr<block_queue> queue_;
  std::array<command, slots> commands_{};
  sim::trace trace_;
  nanoseconds pause_{std::chrono::microseconds{10}};
  std::uint64_t completed_ = 0;
  bool reset_ = false;  // by the user
};

std::uint64_t history_of(std::uint64_t seed, sim::driver_fault_counts& counts) {
  user one{seed, counts};
  return one.live();
}

TEST(DriverFaults, EveryRequestEndsOnceAndRightWhateverTheDeviceDoes) {
  sim::driver_fault_counts counts{sim::driver_fault_names};
  const std::uint64_t run =
      sim::for_each_seed(seeds, [&](std::uint64_t seed) { history_of(seed, counts); });
  counts.report(run, seeds);
}

TEST(DriverFaults, OneSeedHasOneHistory) {
  sim::driver_fault_counts counts{sim::driver_fault_names};
  sim::expect_seeds_decide([&](std::uint64_t seed) { return history_of(seed, counts); });
}

}  // namespace
}  // namespace runnel
