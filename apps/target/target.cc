#include "apps/target/target.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <fstream>
#include <utility>

#include "apps/target/cache_flush.h"
#include "apps/target/prp_walk.h"
#include "mempool/base/check.h"
#include "runtime/io/open.h"

namespace runnel::target {
namespace {

using namespace std::chrono_literals;

constexpr nanoseconds drain_period = 50us;

// Fewer bytes cannot be told: an MDTS of one page is 0, and that means no limit.
constexpr std::uint32_t transfer_bytes_min = 2 * page_bytes;

/// The kernel limits the mappings of a process, and what one client takes, the others and our own
/// heap lack: all clients together may take half. A map may cost two, itself and the gap before it.
std::size_t maps_per_client(std::size_t clients) {
  std::size_t mappings = 65530;  // the kernel's default
  std::ifstream{"/proc/sys/vm/max_map_count"} >> mappings;
  return std::max<std::size_t>(mappings / 2 / 2 / clients, 64);
}

outcome<> check_where(const target_options& options) {
  if (options.listeners.empty() || options.listeners.size() > target::listeners_max) {
    return fail({errc::invalid}, "serve", "target",
                fmt::format("name 1 to {} listeners", target::listeners_max));
  }
  return {};
}

outcome<std::vector<served_device>> open_devices(engine& host, const target_options& options) {
  auto opened = io::open_blocks(
      options.namespaces,
      {.memory = host.memory(),
       .clock = host.clock(),
       .kernel = host.kernel(),
       .queues = static_cast<std::uint32_t>(options.listeners.size() * host.core_count()),
       .queue_depth = options.queue_depth,
       .interrupts = host.core(0).polling() == poll_mode::adaptive});
  if (!opened) {
    return std::unexpected{std::move(opened.error())};
  }
  std::vector<served_device> devices;
  for (std::size_t i = 0; i < opened->size(); ++i) {
    const std::uint32_t depth_max = (*opened)[i]->info().queue_depth_max;
    devices.push_back({.device = std::move((*opened)[i]),
                       .queue_depth = options.namespaces[i].queue_depth.value_or(
                           std::min(options.queue_depth, depth_max))});
  }
  return devices;
}

outcome<> check_device(const block_info& info, std::size_t core_count) {
  // Mapping a client's memory for a device is the business of one core, so the clients that share
  // the device must be on it.
  if (info.device_reads_memory && core_count > 1) {
    return fail({errc::unsupported}, "serve", info.address,
                "devices with DMA are served from one core: name one core");
  }
  if (info.transfer_bytes_max < transfer_bytes_min) {
    return fail({errc::unsupported}, "serve", info.address,
                fmt::format("a namespace must take transfers of {} bytes", transfer_bytes_min));
  }
  return {};
}

}  // namespace

outcome<std::unique_ptr<target>> target::create(engine& host, const target_options& options) {
  if (auto valid = check_where(options); !valid) {
    return std::unexpected{std::move(valid.error())};
  }
  auto devices = open_devices(host, options);
  if (!devices) {
    return std::unexpected{std::move(devices.error())};
  }
  return create(host, options, std::move(*devices));
}

outcome<std::unique_ptr<target>> target::create(engine& host, const target_options& options,
                                                std::vector<served_device> devices) {
  if (auto valid = check_where(options); !valid) {
    return std::unexpected{std::move(valid.error())};
  }
  std::unique_ptr<target> made{new target{host}};
  if (auto adopted = made->adopt(std::move(devices)); !adopted) {
    return std::unexpected{std::move(adopted.error())};
  }
  made->describe(options);
  if (auto opened = made->open_ports(options); !opened) {
    return std::unexpected{std::move(opened.error())};
  }
  return made;
}

std::vector<std::string> target::notes() const {
  std::vector<std::string> said;
  for (const served_device& each : devices_) {
    const block_info& info = each.device->info();
    if (!info.note.empty()) {
      said.push_back(info.address + ": " + info.note);
    }
  }
  return said;
}

target::~target() {
  CHECK(!started_);
}

outcome<> target::adopt(std::vector<served_device> devices) {
  devices_ = std::move(devices);
  if (devices_.empty()) {
    return fail({errc::invalid}, "serve", "target", "name at least one namespace");
  }
  for (const served_device& each : devices_) {
    const block_info& info = each.device->info();
    if (auto valid = check_device(info, host_.core_count()); !valid) {
      return valid;
    }
    system_.transfer_bytes_max =
        std::min(system_.transfer_bytes_max, std::bit_floor(info.transfer_bytes_max));
  }
  return {};
}

void target::describe(const target_options& options) {
  std::string seed;
  for (const std::string& path : options.listeners) {
    seed += path + '\n';
  }
  const namespace_identity self = derive_identity(seed, 0, {});
  const auto& id = self.uuid;
  system_.nqn = fmt::format(
      "nqn.2014-08.org.nvmexpress:uuid:{:02x}-{:02x}-{:02x}-{:02x}-{:02x}",
      fmt::join(id.begin(), id.begin() + 4, ""), fmt::join(id.begin() + 4, id.begin() + 6, ""),
      fmt::join(id.begin() + 6, id.begin() + 8, ""), fmt::join(id.begin() + 8, id.begin() + 10, ""),
      fmt::join(id.begin() + 10, id.end(), ""));
  system_.serial = fmt::format("{:02x}", fmt::join(id.begin() + 6, id.end(), ""));
  system_.firmware = RUNNEL_VERSION;
  system_.clock = &host_.clock();
  system_.powered_on = system_.now();
  for (const auto& [device, depth] : devices_) {
    const auto nsid = static_cast<std::uint32_t>(system_.namespaces.size() + 1);
    system_.add(*device, derive_identity(system_.nqn, nsid, device->info().address));
  }
}

outcome<std::vector<namespace_path>> target::make_paths() {
  std::vector<namespace_path> paths;
  for (const auto& [device, depth] : devices_) {
    const block_info& info = device->info();
    auto queue = device->make_queue(depth);
    if (!queue) {
      return std::unexpected{std::move(queue.error())};
    }
    paths.push_back(
        {.queue = std::move(*queue),
         .block_count = info.block_count,
         .block_shift = static_cast<std::uint32_t>(std::countr_zero(info.block_bytes))});
  }
  return paths;
}

outcome<core_paths> target::make_core_paths() {
  core_paths all;
  for (std::size_t core = 0; core < host_.core_count(); ++core) {
    auto paths = make_paths();
    if (!paths) {
      return std::unexpected{std::move(paths.error())};
    }
    all.push_back(std::move(*paths));
  }
  return all;
}

outcome<> target::open_ports(const target_options& options) {
  const std::size_t maps = maps_per_client(options.listeners.size());
  for (const std::string& path : options.listeners) {
    auto paths = make_core_paths();
    if (!paths) {
      return std::unexpected{std::move(paths.error())};
    }
    const auto id = static_cast<std::uint16_t>(ports_.size() + 1);
    auto made = port::create(path, system_, std::move(*paths),
                             {.controller = {.id = id, .queues = {}},
                              .doorbells = options.doorbells,
                              .maps_max = maps,
                              .bus = &bus_,
                              .on_event = options.on_event});
    if (!made) {
      return std::unexpected{std::move(made.error())};
    }
    ports_.push_back(std::move(*made));
  }
  return {};
}

outcome<> target::start() {
  CHECK(!started_);
  started_ = true;
  if (const result<> attached = attach(); !attached) {
    // What went wrong first is what the caller wants to know.
    static_cast<void>(stop());
    return fail(attached.error(), "serve", "target");
  }
  return {};
}

result<> target::attach() {
  result<> attached;
  host_.call(0, [&] { attached = serve_devices(host_.core(0)); });
  for (std::size_t i = 0; i < ports_.size() && attached; ++i) {
    reactor& core = host_.core(core_of(i));
    lend_cores(*ports_[i], i);
    host_.call(core_of(i), [&] { attached = ports_[i]->attach(core); });
  }
  return attached;
}

void target::lend_cores(port& to, std::size_t port_index) {
  for (std::size_t which = 1; which < host_.core_count(); ++which) {
    const std::size_t core = core_of(port_index, which);
    host_.call(core, [&] {
      to.others()[which - 1]->attach(host_.core(core), host_.core(core_of(port_index)));
    });
  }
}

void target::take_cores_back(port& from, std::size_t port_index) {
  for (std::size_t which = 1; which < host_.core_count(); ++which) {
    const std::size_t core = core_of(port_index, which);
    host_.call(core, [&] { from.others()[which - 1]->detach(); });
  }
}

result<> target::serve_devices(reactor& core) {
  for (const auto& [device, depth] : devices_) {
    if (device->event_fd() < 0) {
      continue;  // it has no control side
    }
    auto control = std::make_unique<service>(
        [](void* context, instant now) noexcept {
          return static_cast<block_device*>(context)->advance(now);
        },
        device.get(), device->event_fd(), "device control");
    if (const result<> watched = core.add_service(*control); !watched) {
      return watched;
    }
    controls_.push_back(std::move(control));
  }
  return {};
}

outcome<> target::stop() {
  if (!std::exchange(started_, false)) {
    return {};
  }
  result<> drained;
  for (std::size_t core = 0; core < host_.core_count(); ++core) {
    const result<> here =
        host_.run(core, [this, core](reactor& loop) { return drain(loop, core); });
    drained = drained ? here : drained;
  }
  result<> flushed;
  if (drained) {
    flushed = host_.run(0, [this](reactor& loop) { return flush(loop); });
  }
  const bool quiet = drained && (flushed || flushed.error().code != errc::timed_out);
  leave_cores();
  if (!quiet) {
    // A device still works on memory that we would free: it is given up instead.
    for (auto& each : ports_) {
      static_cast<void>(each.release());
    }
    for (auto& each : devices_) {
      static_cast<void>(each.device.release());
    }
    return fail({errc::timed_out}, "stop", "target", "a device does not finish its requests");
  }
  if (!flushed) {
    return fail(flushed.error(), "flush", "target", "what was written last may not be durable");
  }
  return {};
}

task<result<>> target::drain(reactor& core, std::size_t core_index) {
  const auto here = [&](std::size_t port_index) { return core_of(port_index) == core_index; };
  for (std::size_t i = 0; i < ports_.size(); ++i) {
    if (here(i)) {
      ports_[i]->close();
    }
  }
  const instant deadline = core.now() + stop_deadline;
  for (std::size_t i = 0; i < ports_.size(); ++i) {
    while (here(i) && !ports_[i]->closed()) {
      if (core.now() >= deadline) {
        co_return fail(errc::timed_out);
      }
      const result<> slept = co_await core.sleep_for(drain_period);
      if (!slept) {
        co_return slept;
      }
    }
  }
  co_return result<>{};
}

/// One flush of each namespace makes durable what all controllers wrote to it.
task<result<>> target::flush(reactor& core) {
  cache_flush everything{ports_.front()->paths()};
  const instant deadline = core.now() + stop_deadline;
  everything.start();
  while (!everything.advance()) {
    if (core.now() >= deadline) {
      co_return fail(errc::timed_out);
    }
    const result<> slept = co_await core.sleep_for(drain_period);
    if (!slept) {
      co_return slept;
    }
  }
  if (everything.failures() != 0) {
    co_return fail(errc::bad_status);
  }
  co_return result<>{};
}

void target::leave_cores() {
  for (std::size_t i = 0; i < ports_.size(); ++i) {
    host_.call(core_of(i), [&] { ports_[i]->detach(); });
    take_cores_back(*ports_[i], i);
  }
  host_.call(0, [this] {
    for (const auto& control : controls_) {
      host_.core(0).remove_service(*control);
    }
  });
  controls_.clear();
}

io_counters target::counters() const noexcept {
  io_counters sum;
  for (std::size_t core = 0; core < host_.core_count(); ++core) {
    sum += counters_of_core(core);
  }
  return sum;
}

io_counters target::counters_of_core(std::size_t index) const noexcept {
  io_counters sum;
  for (std::size_t i = 0; i < ports_.size(); ++i) {
    for (std::size_t which = 0; which < host_.core_count(); ++which) {
      if (core_of(i, which) == index) {
        sum += ports_[i]->counters(which);
      }
    }
  }
  return sum;
}

std::uint64_t target::payload_bytes_copied() const noexcept {
  std::uint64_t sum = 0;
  for (const auto& each : ports_) {
    sum += each->payload_bytes_copied();
  }
  return sum;
}

}  // namespace runnel::target
