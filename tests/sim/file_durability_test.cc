// Goal: what a disk in a file was told to keep is kept: it asks the kernel for the right thing, in
// the right order, by io_uring and without. Method: a fake kernel (fake_kernel.cc) that writes down
// what it is asked for; and one that forgets what was not synced, crashed many times under a seeded
// user. The same must find a kernel that lies.

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "drivers/uring/ring_queue.h"
#include "drivers/uring/sync_queue.h"
#include "tests/sim/block_checker.h"
#include "tests/sim/fake_file.h"
#include "tests/sim/seeds.h"

namespace runnel {
namespace {

constexpr std::uint32_t block_bytes = 512;
constexpr std::uint64_t block_count = 64;
constexpr std::uint32_t depth = 8;
constexpr std::uint32_t blocks_max = 5;
constexpr std::uint64_t seeds = 200;
constexpr std::uint64_t seeds_of_bugs = 20;
constexpr int crashes_per_seed = 5;
constexpr std::uint64_t turns_max = 200;

/// @param direct  memory that is not aligned takes a detour
uring::opened_file fake_opened(bool direct) {
  uring::opened_file file;
  file.geometry = {.block_bytes = block_bytes,
                   .transfer_bytes_max = uring::transfer_bytes_max,
                   .block_count = block_count,
                   .operations = all_block_operations};
  file.direct = direct;
  file.memory_alignment = file.length_alignment = direct ? block_bytes : 1;
  return file;
}

std::unique_ptr<block_queue> fake_queue(const uring::opened_file& file, bool ring) {
  if (ring) {
    return std::move(*uring::ring_queue::create(file, depth, nullptr));
  }
  return std::make_unique<uring::sync_queue>(file, depth);
}

block_status run_alone(block_queue& queue, block_request request) {
  queue.submit({&request, 1});
  queue.flush();
  block_completion end{.status = request.status};
  for (int i = 0; i < 1000 && request.state == block_state::pending; ++i) {
    if (queue.poll({&end, 1}) == 1) {
      break;
    }
  }
  return end.status;
}

TEST(FileDurability, TheKernelIsAskedForTheRightThingInTheRightOrder) {
  using calls = std::vector<std::string>;
  struct {
    block_op op;
    bool forced;
    std::map<std::string, int> refused;
    calls expected;
    block_status status = block_status::success;
  } const cases[] = {
      {block_op::read, false, {}, {"read"}},
      {block_op::write, false, {}, {"write"}},
      {block_op::write, true, {}, {"write dsync"}},
      {block_op::flush, false, {}, {"sync"}},
      {block_op::flush, false, {{"sync", EIO}}, {"sync"}, block_status::write_fault},
      {block_op::write_zeroes, false, {}, {"zero"}},
      {block_op::write_zeroes, true, {}, {"zero", "sync"}},
      {block_op::write_zeroes, true, {{"zero", EOPNOTSUPP}}, {"zero", "hole", "sync"}},
      {block_op::write_zeroes, true, {{"zero", EIO}}, {"zero"}, block_status::write_fault},
      {block_op::write_zeroes, true, {{"sync", EIO}}, {"zero", "sync"}, block_status::write_fault},
      {block_op::deallocate, false, {}, {"hole"}},
      {block_op::verify, false, {}, {"read"}},
  };
  for (const bool ring : {false, true}) {
    for (const auto& given : cases) {
      SCOPED_TRACE(
          fmt::format("operation {} {} {}", static_cast<int>(given.op), given.forced, ring));
      sim::fake_file kernel{{}};
      kernel.refused = given.refused;
      const uring::opened_file file = fake_opened(false);
      const auto queue = fake_queue(file, ring);
      std::array<std::byte, block_bytes> data{};
      const segment piece{.address = data.data(), .length = data.size()};
      EXPECT_EQ(run_alone(*queue, {.segments = &piece,
                                   .segment_count = has_data(given.op) ? 1U : 0U,
                                   .blocks = given.op == block_op::flush ? 0U : 1U,
                                   .op = given.op,
                                   .force_unit_access = given.forced}),
                given.status);
      EXPECT_EQ(kernel.calls, given.expected);
    }
  }
}

TEST(FileDurability, EachPartOfAForcedWriteIsForced) {
  for (const bool ring : {false, true}) {
    sim::fake_file kernel{{.parts = 255}};
    const uring::opened_file file = fake_opened(false);
    const auto queue = fake_queue(file, ring);
    std::array<std::byte, std::size_t{4} * block_bytes> data{};
    const segment piece{.address = data.data(), .length = data.size()};
    EXPECT_EQ(run_alone(*queue, {.segments = &piece,
                                 .segment_count = 1,
                                 .blocks = 4,
                                 .op = block_op::write,
                                 .force_unit_access = true}),
              block_status::success);
    EXPECT_GE(kernel.calls.size(), 2U);
    EXPECT_EQ(std::ranges::count(kernel.calls, "write dsync"), std::ssize(kernel.calls));
  }
}

/// A file that is used until the machine it is on loses its power, several times.
class crashing_file {
 public:
  explicit crashing_file(const sim::fake_file_options& options)
      : options_{options},
        random_{~options.seed},
        checker_{{block_bytes, block_bytes, block_count}},
        file_{fake_opened(options.seed % 2 == 0)},
        data_(std::size_t{depth} * blocks_max * block_bytes) {}

  void live() {
    for (int i = 0; i < crashes_per_seed; ++i) {
      options_.seed = random_.next();
      sim::fake_file kernel{options_, left_};
      use_until_it_crashes(kernel);
      checker_.recover(left_);
    }
  }

  std::uint64_t dropped = 0;
  [[nodiscard]] const sim::block_checker& checker() const { return checker_; }

 private:
  struct command {
    bool in_flight = false;
    block_request request;
    sim::block_checker::write write;
    sim::block_checker::read read;
    std::uint64_t flush = 0;
    std::span<std::byte> data;
  };

  void use_until_it_crashes(sim::fake_file& kernel) {
    const auto queue = fake_queue(file_, random_.below(4) != 0);
    commands_ = {};
    for (std::uint64_t turns = 10 + random_.below(turns_max); turns != 0; --turns) {
      start(*queue, random_.below(depth));
      if (random_.below(2) == 0) {
        queue->flush();
      }
      collect(*queue);
    }
    left_ = kernel.crash();
    dropped += kernel.dropped;
  }

  void start(block_queue& queue, std::uint64_t slot) {
    command& one = commands_[slot];
    if (one.in_flight) {
      return;
    }
    constexpr std::array kinds{block_op::read,  block_op::write,        block_op::write,
                               block_op::write, block_op::write_zeroes, block_op::flush};
    const block_op op = kinds[random_.below(kinds.size())];
    const auto blocks = static_cast<std::uint32_t>(1 + random_.below(blocks_max));
    const std::uint64_t first = random_.below(block_count - blocks);
    one.data = std::span{data_}.subspan(slot * blocks_max * block_bytes, blocks * block_bytes);
    const std::size_t cut = random_.below(one.data.size());
    const std::array pieces{segment{.address = one.data.data(), .length = cut},
                            segment{.address = &one.data[cut], .length = one.data.size() - cut}};
    one.request = {.tag = slot,
                   .segments = pieces.data(),
                   .segment_count = has_data(op) ? 2U : 0U,
                   .blocks = op == block_op::flush ? 0U : blocks,
                   .first = lba{op == block_op::flush ? 0 : first},
                   .op = op,
                   .force_unit_access = changes_data(op) && random_.below(4) == 0};
    begin(one);
    queue.submit({&one.request, 1});
    one.in_flight = one.request.state == block_state::pending;
    if (one.request.state == block_state::done) {
      finish(one, one.request.status);
    } else if (!one.in_flight) {
      withdraw(one);
    }
  }

  void begin(command& one) {
    const block_op op = one.request.op;
    const std::uint64_t first = raw(one.request.first);
    if (changes_data(op)) {
      one.write = checker_.begin_write(first, one.request.blocks, op == block_op::write_zeroes);
    }
    if (op == block_op::write) {
      checker_.fill(one.write, one.data);
    } else if (op == block_op::read) {
      one.read = checker_.begin_read(first);
    } else if (op == block_op::flush) {
      one.flush = checker_.begin_flush();
    }
  }

  void collect(block_queue& queue) {
    std::array<block_completion, depth> ended;
    for (const block_completion& each : std::span{ended}.first(queue.poll(ended))) {
      command& one = commands_.at(each.tag);
      EXPECT_TRUE(std::exchange(one.in_flight, false));
      finish(one, each.status);
    }
  }

  void finish(const command& one, block_status status) {
    EXPECT_EQ(status, block_status::success);
    if (changes_data(one.request.op)) {
      checker_.end_write(one.write, true, one.request.force_unit_access);
    } else if (one.request.op == block_op::read) {
      checker_.end_read(one.read, one.data);
    } else {
      checker_.end_flush(one.flush);
    }
  }

  void withdraw(const command& one) {
    if (changes_data(one.request.op)) {
      checker_.withdraw(one.write);
    } else if (one.request.op == block_op::read) {
      checker_.drop_read(one.read);
    }
  }

  sim::fake_file_options options_;
  perf::random_stream random_;
  sim::block_checker checker_;
  uring::opened_file file_;
  std::vector<std::byte> data_;
  std::array<command, depth> commands_{};
  std::vector<std::byte> left_;  // on the medium
};

sim::fake_file_options kernel_of(std::uint64_t seed) {
  return {.block_count = block_count, .seed = seed, .parts = 32, .interrupted = 8};
}

TEST(FileDurability, NoCrashLosesWhatWasFlushedOrForced) {
  std::uint64_t dropped = 0;
  const std::uint64_t run = sim::for_each_seed(seeds, [&](std::uint64_t seed) {
    crashing_file one{kernel_of(seed)};
    one.live();
    EXPECT_EQ(one.checker().wrong(), 0U) << one.checker().first_wrong();
    dropped += one.dropped;
  });
  fmt::print("{} crashes: {} blocks dropped, 0 of them durable\n", run * crashes_per_seed, dropped);
  EXPECT_GE(dropped, run);
}

/// For how many seeds the test above would have failed, had their kernels lied.
std::uint64_t found_with(bool sim::fake_file_options::* bug) {
  std::uint64_t found = 0;
  for (std::uint64_t seed = 1; seed <= seeds_of_bugs; ++seed) {
    sim::fake_file_options options = kernel_of(seed);
    options.*bug = true;
    crashing_file one{options};
    one.live();
    found += one.checker().wrong() != 0 ? 1U : 0U;
  }
  return found;
}

TEST(FileDurability, AKernelThatDoesNotSyncIsFoundOut) {
  EXPECT_GT(found_with(&sim::fake_file_options::sync_does_nothing), seeds_of_bugs / 2);
  EXPECT_GT(found_with(&sim::fake_file_options::dsync_does_nothing), seeds_of_bugs / 2);
}

}  // namespace
}  // namespace runnel
