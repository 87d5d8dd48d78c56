#include "apps/perf/run.h"

#include <fmt/format.h>
#include <signal.h>

#include <algorithm>
#include <iterator>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "apps/perf/raw_loop.h"
#include "apps/perf/session.h"
#include "apps/process/confine.h"
#include "mempool/base/bits.h"
#include "mempool/window.h"
#include "runtime/engine.h"
#include "runtime/io/address.h"
#include "runtime/task_report.h"

namespace runnel::perf {
namespace {

// Submission and completion rings, PRP lists and admin pages of a controller, generously.
constexpr std::size_t queue_memory_bytes = 16 * mib;
// A perf worker's frame and those of what it awaits.
constexpr std::size_t frame_bytes_per_worker = 2 * kib;
constexpr std::size_t io_alignment = 4096;
constexpr std::uint64_t marked_max = std::uint64_t{1} << 28U;    // 32 MiB of marks
constexpr std::uint64_t verified_max = std::uint64_t{1} << 28U;  // 1 TiB in I/Os of 4 KiB
// A timer's tick, and the idle turns that are not stamped.
constexpr nanoseconds timer_lateness_max{1'500};

/// What a core needs to run its part; lives until its tasks have ended.
struct core_run {
  core_run(const options& wishes, io::shared_device& disk, std::size_t core_index,
           std::span<std::byte> space, const region& where) noexcept
      : asked{wishes}, device{disk}, index{core_index}, buffers{space}, memory{where} {}

  const options& asked;
  io::shared_device& device;
  std::size_t index;
  std::span<std::byte> buffers;  // one of io_bytes for each I/O in flight
  const region& memory;
  std::unique_ptr<session> work;
};

io::borrowed_io issue(const core_run& run, const planned_io& io, std::span<std::byte> data) {
  io::disk& disk = run.device.on(run.index);
  const lba first = run.work->block_of(io);
  return io.is_write ? disk.write(first, data, run.memory) : disk.read(first, data, run.memory);
}

/// Keeps one I/O in flight: plans, awaits, reports, until the session is over. Timers are coarser
/// than fast I/Os are apart, so the last of the way to a start is waited for turn by turn.
task<> worker(core_run& run, reactor& core, std::span<std::byte> data) {
  session& work = *run.work;
  planned_io io;
  while (!work.finished()) {
    if (!work.plan(io, data)) {
      const result<> waited = co_await core.yield();
      if (!waited) {
        co_return;
      }
      continue;
    }
    while (io.intended > core.now()) {
      const bool is_far = io.intended > core.now() + timer_lateness_max;
      result<> waited;
      if (is_far) {
        waited = co_await core.sleep_until(io.intended - timer_lateness_max);
      } else {
        waited = co_await core.yield();
      }
      if (!waited || work.finished()) {
        work.withdraw(io);
        co_return;
      }
    }
    const instant started = work.start(io);
    const result<> ended = co_await issue(run, io, data);
    work.finish(io, started, ended, data);
  }
}

task<core_result> run_coroutines(core_run& run, reactor& core) {
  const std::size_t io_bytes = run.asked.io_bytes;
  run.work->begin();
  gate workers{core};
  for (std::uint32_t i = 0; i < run.asked.depth; ++i) {
    workers.spawn(worker(run, core, run.buffers.subspan(i * io_bytes, io_bytes)), "perf worker");
  }
  co_await workers.close();
  co_return run.work->take_result();
}

task<core_result> run_raw(core_run& run, reactor& core) {
  run.work->begin();
  const segment memory{
      .address = run.buffers.data(), .length = run.buffers.size(), .memory = &run.memory};
  raw_loop loop{*run.work, run.device.queue(run.index), memory, run.asked.depth, core};
  core.add_source(loop.as_source());
  const result<> ended = co_await loop.ended().wait(never);
  core.remove_source(&loop);
  CHECK(ended.has_value());
  co_return run.work->take_result();
}

bool only_reads(const options& asked) noexcept {
  return !asked.verify && (asked.rw == pattern::read || asked.rw == pattern::randread);
}

outcome<> check_io_size(const options& asked, const block_info& device) {
  const auto refuse = [&asked, &device](std::string hint) {
    return fail({errc::invalid}, fmt::format("do I/O of {} bytes on", asked.io_bytes),
                device.address, std::move(hint));
  };
  if (asked.io_bytes == 0 || asked.io_bytes % device.block_bytes != 0) {
    return refuse(
        fmt::format("--block-size must be a multiple of its {}-byte blocks", device.block_bytes));
  }
  if (asked.io_bytes > device.transfer_bytes_max) {
    return refuse(fmt::format("one I/O may carry {} bytes", device.transfer_bytes_max));
  }
  if (device.block_count / (asked.io_bytes / device.block_bytes) < asked.cores.size()) {
    return refuse("the device is smaller than one I/O for each core");
  }
  if (asked.verify && device.block_count / (asked.io_bytes / device.block_bytes) > verified_max) {
    return refuse(fmt::format("--verify remembers 4 bytes for each, of {} at most", verified_max));
  }
  return {};
}

/// The slots of the `index`th core: all of them, or with --verify a part of its own.
slot_range slots_of(const options& asked, const block_info& device, std::size_t index) {
  const std::uint64_t slots = device.block_count / (asked.io_bytes / device.block_bytes);
  if (!asked.verify) {
    return {.first = 0, .count = slots};
  }
  const std::uint64_t share = slots / asked.cores.size();
  return {.first = share * index, .count = share};
}

outcome<std::unique_ptr<engine>> create_engine(const options& asked, std::size_t buffer_bytes) {
  engine_options wanted;
  wanted.name = "perf";
  for (const unsigned core : asked.cores) {
    wanted.cores.push_back(core_id{core});
  }
  wanted.window_bytes = (align_up(buffer_bytes, 2 * mib) + queue_memory_bytes) * asked.cores.size();
  wanted.poll = asked.poll;
  wanted.frame_arena_bytes = mib + (asked.depth * frame_bytes_per_worker);
  return engine::create(std::move(wanted));
}

outcome<std::vector<core_run>> prepare(const options& asked, engine& host,
                                       io::shared_device& device, std::size_t buffer_bytes) {
  std::vector<core_run> runs;
  for (std::size_t i = 0; i < asked.cores.size(); ++i) {
    const auto buffers = host.memory().allocate(buffer_bytes, io_alignment, host.node_of_core(i));
    if (!buffers) {
      return fail(buffers.error(), "take buffers from", "the memory window");
    }
    core_run& added = runs.emplace_back(asked, device, i, *buffers, host.memory().memory());
    host.call(i, [&] {
      added.work = std::make_unique<session>(
          asked, device.info(), slots_of(asked, device.info(), i), host.core(i), host.clock());
    });
  }
  return runs;
}

/// Until the core has ended. How long --verify takes to fill the device is not known.
void show_progress(const options& asked, running<core_result>& core) {
  using std::chrono::milliseconds;
  constexpr milliseconds period{100};
  const auto total = std::chrono::duration_cast<milliseconds>(asked.warmup + asked.duration);
  milliseconds passed{0};
  while (!core.wait_for(period)) {
    passed += period;
    asked.progress(static_cast<std::uint64_t>(passed.count()),
                   asked.verify ? 0 : static_cast<std::uint64_t>(total.count()));
  }
}

/// How many slots of the device were used; nothing when there are too many to remember.
std::optional<std::uint64_t> count_touched(const std::vector<core_run>& runs) {
  const block_info& device = runs.front().device.info();
  const std::uint64_t slots =
      device.block_count / (runs.front().asked.io_bytes / device.block_bytes);
  if (slots > marked_max) {
    return std::nullopt;
  }
  std::vector<bool> touched(slots);
  for (const core_run& run : runs) {
    run.work->mark_touched(touched);
  }
  return static_cast<std::uint64_t>(std::ranges::count(touched, true));
}

}  // namespace

outcome<report> run(const options& asked) {
  const auto address = io::parse_address(asked.address);
  if (!address) {
    return std::unexpected{address.error()};
  }
  const std::size_t buffer_bytes = std::size_t{asked.depth} * asked.io_bytes;
  const auto host = create_engine(asked, buffer_bytes);
  if (!host) {
    return std::unexpected{host.error()};
  }
  const auto tasks = task_report::on_signal(SIGUSR1, **host);
  if (!tasks) {
    return std::unexpected{tasks.error()};
  }
  const auto device = (*host)->open(
      *address, {.queue_depth = asked.depth, .read_only = only_reads(asked), .raw = asked.raw});
  if (!device) {
    return std::unexpected{device.error()};
  }
  if (const auto fits = check_io_size(asked, (*device)->info()); !fits) {
    return std::unexpected{fits.error()};
  }
  auto runs = prepare(asked, **host, **device, buffer_bytes);
  if (!runs) {
    return std::unexpected{runs.error()};
  }
  if (asked.confine) {
    if (auto confined = process::confine(*asked.confine, **host, tasks->get()); !confined) {
      return std::unexpected{std::move(confined.error())};
    }
  }

  report all{.asked = asked,
             .device = asked.address,
             .page_bytes = (*host)->memory().page_bytes(),
             .cores = {},
             .distinct_slots = {},
             .notes = (*host)->notes(),
             .mishap = {}};
  std::vector<running<core_result>> cores;
  cores.reserve(runs->size());
  for (std::size_t i = 0; i < runs->size(); ++i) {
    cores.push_back((*host)->start(i, [&one = (*runs)[i]](reactor& core) {
      return one.asked.raw ? run_raw(one, core) : run_coroutines(one, core);
    }));
  }
  if (asked.progress) {
    show_progress(asked, cores.front());
  }
  for (std::size_t i = 0; i < cores.size(); ++i) {
    core_result& ended = all.cores.emplace_back(cores[i].get());
    ended.memory_node = node_of((*runs)[i].buffers.data());
  }
  all.distinct_slots = count_touched(*runs);
  all.mishap = (*host)->mishap_of(**device);
  if (!all.mishap.empty()) {
    all.notes.push_back(all.device + ": " + all.mishap);
  }
  std::ranges::move((*host)->sleepless_cores(), std::back_inserter(all.notes));
  return all;
}

}  // namespace runnel::perf
