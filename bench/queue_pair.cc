// Claim: the NVMe driver costs at most 45 TSC cycles for an I/O that is submitted and completed
// through its queue, and at most 75 when a coroutine awaits it, the whole turn of its core
// included. Method: 4 KiB reads into the window at depth 32, on a device in this core's cache that
// answers each burst at once. What the device takes is measured by itself, in the same round, and
// taken off.

#include <sched.h>

#include <array>
#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <utility>

#include "bench/cached_nvme_device.h"
#include "bench/contest.h"
#include "bench/need.h"
#include "bench/slices.h"
#include "mempool/base/check.h"
#include "mempool/pool.h"
#include "runtime/cores.h"
#include "runtime/gate.h"
#include "runtime/io/block.h"
#include "runtime/reactor.h"
#include "runtime/task.h"

namespace runnel::bench {
namespace {

constexpr std::uint32_t depth = 32;
constexpr std::uint32_t io_bytes = 4096;
constexpr std::uint32_t turns_per_slice = 1024;

/// Where the next read begins: anywhere in 2^32 blocks.
class scatter {
 public:
  explicit scatter(std::uint64_t seed) noexcept : state_{seed} {}
  lba next() noexcept {
    state_ = state_ * 6'364'136'223'846'793'005U + 1'442'695'040'888'963'407U;
    return lba{state_ >> 32U};
  }

 private:
  std::uint64_t state_;
};

/// What all rounds use.
struct bench_parts {
  window memory = need(window::create({.bytes = 4 * mib}));
  std::unique_ptr<buffer_pool> pool =
      need(buffer_pool::create(memory, {.buffer_bytes = io_bytes, .count = depth}));
  cached_nvme_device device{memory, depth};
  tsc_clock clock;
};

double device_alone(bench_parts& parts, double seconds) {
  slices turns{seconds, turns_per_slice};
  do {
    parts.device.ring_for(depth);
    CHECK(parts.device.answer() == depth);
  } while (turns.go_on());
  return turns.cycles() / depth;
}

double raw_reads(bench_parts& parts, double seconds) {
  const auto queue = parts.device.make_queue();
  std::array<buffer, depth> buffers;
  std::array<segment, depth> segments;
  std::array<block_request, depth> requests;
  std::array<block_completion, depth> completions;
  for (std::uint32_t i = 0; i < depth; ++i) {
    buffers[i] = parts.pool->get();
    segments[i] = {buffers[i].data(), io_bytes, &parts.memory.memory()};
    requests[i] = {.tag = i,
                   .segments = &segments[i],
                   .segment_count = 1,
                   .blocks = io_bytes / cached_nvme_device::block_bytes};
  }
  scatter places{1};
  slices turns{seconds, turns_per_slice};
  do {
    queue->submit(requests);
    queue->flush();
    (void)parts.device.answer();
    CHECK(queue->poll(completions) == depth);
    for (const block_completion& done : completions) {
      CHECK(done.status == block_status::success);
      requests[done.tag].first = places.next();
    }
  } while (turns.go_on());
  return turns.cycles() / depth;
}

/// The device, seen from a reactor: a source that is polled before the disk.
struct device_source {
  cached_nvme_device& device;
  slices turns;
  bool over = false;

  static std::uint32_t poll(void* self) noexcept {
    auto& me = *static_cast<device_source*>(self);
    me.over = me.over || !me.turns.go_on();
    return me.device.answer();
  }
};

task<> keep_reading(io::disk& disk, buffer data, std::uint64_t seed, const bool& over) {
  scatter places{seed};
  while (!over) {
    auto got = co_await disk.read(places.next(), std::move(data));
    CHECK(got.has_value());
    data = std::move(*got);
  }
}

task<> stop_after(gate& readers) {
  co_await readers.close();
  reactor::current()->request_stop();
}

double awaited_reads(bench_parts& parts, double seconds) {
  reactor core{parts.clock, need(make_epoll_waiter()), {}};
  block_info info;
  info.block_bytes = cached_nvme_device::block_bytes;
  io::disk disk{core, parts.device.make_queue(), info, {}};
  device_source source{parts.device, {seconds, turns_per_slice}};
  core.add_source({.poll = device_source::poll, .context = &source, .name = "device"});
  disk.attach();
  gate readers{core};
  gate closer{core};
  for (std::uint32_t i = 0; i < depth; ++i) {
    readers.spawn(keep_reading(disk, parts.pool->get(), i, source.over), "reader");
  }
  closer.spawn(stop_after(readers));
  core.run();
  disk.detach();
  core.remove_source(&source);
  return source.turns.cycles() / depth;
}

/// The last core that it may use; the first has most interrupts.
void pin_this_thread() {
  const core_id core = need(allowed_cores()).back();
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(raw(core), &set);
  if (::sched_setaffinity(0, sizeof set, &set) != 0) {
    give_up({os_error(), "pin to", "core " + std::to_string(raw(core)), {}});
  }
}

}  // namespace
}  // namespace runnel::bench

int main(int argc, char** argv) {
  using namespace runnel::bench;
  pin_this_thread();
  bench_parts parts;
  const auto device = [&parts](double seconds) { return device_alone(parts, seconds); };
  const auto raw = [&](double seconds) { return raw_reads(parts, seconds) - device(seconds); };
  const auto awaited = [&](double seconds) {
    return awaited_reads(parts, seconds) - device(seconds);
  };
  const contest costs{
      .unit = "cycles",
      .ours = {{.name = "raw: submit, flush, poll", .cost = raw, .owed_max = 45},
               {.name = "a coroutine: await disk.read", .cost = awaited, .owed_max = 75},
               {.name = "the device alone, not in those", .cost = device}}};
  return run_contests({.title = "NVMe driver, 4 KiB, depth 32, per I/O", .contests = {&costs, 1}},
                      {argc, argv});
}
