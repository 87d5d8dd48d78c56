// Goal: an engine starts what it was asked for, says what is wrong with what it cannot do, and
// leaves nothing behind, however often. Method: real threads on the cores this process may use;
// /proc tells what is left.

#include "runtime/engine.h"

#include <gtest/gtest.h>
#include <sched.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>

#include "mempool/base/poison.h"
#include "mempool/pool.h"
#include "runtime/cores.h"

namespace runnel {
namespace {

using namespace std::chrono_literals;

constexpr std::size_t small_window = 2 * mib;

engine_options small_options() {
  engine_options options;
  options.window_bytes = small_window;
  options.huge_pages = false;
  return options;
}

std::unique_ptr<engine> make_engine(engine_options options) {
  auto made = engine::create(std::move(options));
  EXPECT_TRUE(made) << made.error().message();
  return made ? std::move(*made) : nullptr;
}

task<int> core_of(reactor& loop) {
  (void)co_await loop.yield();
  co_return sched_getcpu() == static_cast<int>(raw(loop.core())) ? sched_getcpu() : -1;
}

TEST(Engine, RunsATaskOnEachOfItsCores) {
  engine_options options = small_options();
  options.cores = *allowed_cores();
  const auto cores = options.cores;
  const auto made = make_engine(options);
  ASSERT_EQ(made->core_count(), cores.size());
  for (std::size_t index = 0; index < cores.size(); ++index) {
    EXPECT_EQ(made->run(index, core_of), static_cast<int>(raw(cores[index])));
  }
}

TEST(Engine, RefusesACoreThatIsNotAllowedAndListsThoseThatAre) {
  engine_options options = small_options();
  options.cores = {core_id{7777}};
  const auto made = engine::create(options);
  ASSERT_FALSE(made);
  EXPECT_EQ(made.error().what.code, errc::not_found);
  const std::string line = made.error().message();
  EXPECT_NE(line.find("7777"), std::string::npos) << line;
  EXPECT_NE(line.find(to_string(*allowed_cores())), std::string::npos) << line;
}

TEST(Engine, RefusesAWindowLargerThanTheMachineInOneFailure) {
  engine_options options = small_options();
  options.window_bytes = std::size_t{1} << 50;
  const auto made = engine::create(options);
  ASSERT_FALSE(made);
  EXPECT_FALSE(made.error().hint.empty());
}

task<> sleep_for_ever(reactor& loop, errc& end) {
  const auto slept = co_await loop.sleep_for(24h);
  end = slept ? errc::ok : slept.error().code;
}

TEST(Engine, EndsTasksThatStillWaitWhenItGoes) {
  errc end = errc::ok;
  auto made = make_engine(small_options());
  auto sleeper = made->start(0, [&end](reactor& loop) { return sleep_for_ever(loop, end); });
  made.reset();
  sleeper.get();
  EXPECT_EQ(end, errc::cancelled);
}

TEST(Engine, CallsOnACoreReturnWhenTheyAreDone) {
  const auto made = make_engine(small_options());
  int calls = 0;
  for (int count = 0; count < 1000; ++count) {
    made->call(0, [&calls] { ++calls; });
  }
  EXPECT_EQ(calls, 1000);
}

task<result<>> write_and_read_back(io::disk& disk, buffer_pool& pool) {
  buffer data = pool.get();
  for (std::size_t index = 0; index < data.size(); ++index) {
    data.bytes()[index] = static_cast<std::byte>(index * 7);
  }
  auto written = co_await disk.write(lba{8}, std::move(data));
  if (!written) {
    co_return std::unexpected{written.error()};
  }
  std::fill(written->bytes().begin(), written->bytes().end(), std::byte{0});
  auto read = co_await disk.read(lba{8}, std::move(*written));
  if (!read) {
    co_return std::unexpected{read.error()};
  }
  for (std::size_t index = 0; index < read->size(); ++index) {
    if (read->bytes()[index] != static_cast<std::byte>(index * 7)) {
      co_return fail(errc::protocol);
    }
  }
  co_return co_await disk.flush();
}

TEST(Engine, ADiskWritesAndReadsBackThroughACoroutine) {
  const auto made = make_engine(small_options());
  const auto where = io::parse_address("ram:1m");
  const auto device = made->open(*where);
  ASSERT_TRUE(device) << device.error().message();
  EXPECT_EQ((*device)->info().block_count, 2048U);
  const auto pool = made->make_pool({.buffer_bytes = 4096, .count = 4});
  ASSERT_TRUE(pool);
  const auto done =
      made->run(0, [&](reactor&) { return write_and_read_back((*device)->on(0), **pool); });
  EXPECT_TRUE(done) << to_string(done.error());
}

/// Passes a millisecond at every look, so that deadlines come without anybody waiting.
struct hasty_clock final : clock_source {
  [[nodiscard]] instant now() const noexcept override {
    return instant{std::chrono::milliseconds{looks.fetch_add(1, std::memory_order_relaxed)}};
  }
  mutable std::atomic<std::int64_t> looks{1};
};

/// What became of a device that never answers.
struct last_things {
  const buffer_pool* pool = nullptr;
  std::thread::id user;       // of the queue
  std::thread::id deleter;    // of the queue
  bool closed = false;        // the device
  std::size_t home_then = 0;  // buffers, when it was closed
};

struct silent_queue final : block_queue {
  explicit silent_queue(last_things& to) : seen{to} {}
  silent_queue(const silent_queue&) = delete;
  silent_queue& operator=(const silent_queue&) = delete;
  ~silent_queue() override { seen.deleter = std::this_thread::get_id(); }
  void submit(std::span<block_request> requests) noexcept override {
    seen.user = std::this_thread::get_id();
    for (block_request& each : requests) {
      each.state = block_state::pending;
    }
  }
  std::size_t poll(std::span<block_completion>) noexcept override { return 0; }
  void flush() noexcept override {}
  [[nodiscard]] std::uint32_t depth() const noexcept override { return 4; }
  last_things& seen;
};

struct silent_device final : block_device {
  explicit silent_device(last_things& to) : seen{to} {}
  [[nodiscard]] const block_info& info() const noexcept override { return about; }
  [[nodiscard]] outcome<std::unique_ptr<block_queue>> make_queue(std::uint32_t) override {
    return std::make_unique<silent_queue>(seen);
  }
  static void close(block_device& device, const clock_source&) noexcept {
    last_things& seen = static_cast<silent_device&>(device).seen;
    seen.closed = true;
    seen.home_then = seen.pool->free_count();
  }
  block_info about;
  last_things& seen;
};

task<errc> write_one(io::disk& disk, buffer_pool& pool) {
  buffer data = pool.get();
  const auto written = co_await disk.write(lba{0}, std::move(data));
  co_return written ? errc::ok : written.error().code;
}

TEST(Engine, ABufferLeftWithADeviceGoesHomeWhenTheDeviceIsClosed) {
  const hasty_clock clock;
  last_things seen;
  engine_options options = small_options();
  options.clock = &clock;
  auto made = make_engine(options);
  const auto device =
      made->adopt({new silent_device{seen}, io::device_closer{silent_device::close, clock}});
  const auto pool = made->make_pool({.buffer_bytes = 4096, .count = 2});
  ASSERT_TRUE(device && pool);
  seen.pool = *pool;
  EXPECT_EQ(made->run(0, [&](reactor&) { return write_one((*device)->on(0), **pool); }),
            errc::timed_out);
  EXPECT_EQ((*pool)->free_count(), 1U);
  made.reset();
  EXPECT_TRUE(seen.closed);
  EXPECT_EQ(seen.home_then, 1U) << "the device might still have read it";
  EXPECT_NE(seen.deleter, std::this_thread::get_id());
  EXPECT_EQ(seen.deleter, seen.user);
}

TEST(Engine, WhatCannotBeOpenedIsNamed) {
  const auto made = make_engine(small_options());
  for (const char* const text :
       {"file:/nowhere/at/all", "vfio-user:/nowhere/at.sock", "pci:0000:01:00.0", "ram:1000"}) {
    const auto device = made->open(*io::parse_address(text));
    ASSERT_FALSE(device) << text;
    EXPECT_FALSE(io::is_usage_error(device.error()));
    const std::string line = device.error().message();
    EXPECT_NE(line.find(std::string{text}.substr(text[0] == 'v' ? 10 : 5)), std::string::npos)
        << line;
    EXPECT_FALSE(device.error().hint.empty()) << line;
  }
}

std::size_t entries_in(const char* directory) {
  std::size_t count = 0;
  for ([[maybe_unused]] const auto& each : std::filesystem::directory_iterator{directory}) {
    ++count;
  }
  return count;
}

/// Kilobytes this process has mapped; heap growth shows here too.
std::size_t mapped_kilobytes() {
  std::ifstream status{"/proc/self/status"};
  std::string word;
  std::size_t kilobytes = 0;
  while (status >> word) {
    if (word == "VmSize:") {
      status >> kilobytes;
    }
  }
  return kilobytes;
}

void use_two_engines() {
  engine_options options = small_options();
  options.name = "first";
  const auto first = make_engine(options);
  options.name = "second";
  options.cores = {allowed_cores()->back()};
  const auto second = make_engine(options);
  for (const auto& each : {first.get(), second.get()}) {
    ASSERT_TRUE(each->open(*io::parse_address("null:1m")));
    EXPECT_GE(each->run(0, core_of), 0);
  }
}

TEST(Engine, EnginesThatComeAndGoLeaveNothing) {
  use_two_engines();  // the first time, libraries take what they keep
  use_two_engines();
  const std::size_t fds = entries_in("/proc/self/fd");
  const std::size_t threads = entries_in("/proc/self/task");
  const std::size_t kilobytes = mapped_kilobytes();
  for (int round = 0; round < 25; ++round) {
    use_two_engines();
  }
  EXPECT_EQ(entries_in("/proc/self/fd"), fds);
  EXPECT_EQ(entries_in("/proc/self/task"), threads);
  if (!poison_is_seen) {  // AddressSanitizer's quarantine grows by design
    EXPECT_LE(mapped_kilobytes(), kilobytes + 4096);  // a leak shows 25 times
  }
}

TEST(Cores, AreWrittenAsRanges) {
  EXPECT_EQ(to_string(std::vector<core_id>{}), "");
  EXPECT_EQ(to_string(std::vector{core_id{3}}), "3");
  EXPECT_EQ(to_string(std::vector{core_id{0}, core_id{1}, core_id{2}, core_id{5}, core_id{7}}),
            "0-2,5,7");
}

}  // namespace
}  // namespace runnel
