#include "runtime/engine.h"

#include <sched.h>
#include <sys/prctl.h>

#include <algorithm>
#include <iterator>

#include "runtime/cores.h"
#include "runtime/io/open.h"

namespace runnel {
namespace {

task<> close_tasks(gate& tasks, std::binary_semaphore& ended) {
  tasks.cancel();
  co_await tasks.close();
  ended.release();
}

/// Where work goes that no reactor should do; all cores when each has a reactor.
std::vector<core_id> cores_without(std::span<const core_id> taken,
                                   std::span<const core_id> allowed) {
  std::vector<core_id> left;
  std::ranges::copy_if(allowed, std::back_inserter(left), [taken](core_id core) {
    return std::ranges::find(taken, core) == taken.end();
  });
  return left.empty() ? std::vector<core_id>{allowed.begin(), allowed.end()} : left;
}

void run_reactor(void* context) noexcept {
  // A core that sleeps wakes at its deadline, not up to 50 us later as the kernel has it otherwise.
  static_cast<void>(::prctl(PR_SET_TIMERSLACK, 1UL, 0UL, 0UL, 0UL));
  static_cast<reactor*>(context)->run();
}

}  // namespace

outcome<std::unique_ptr<engine>> engine::create(engine_options options) {
  const auto allowed = allowed_cores();
  if (!allowed) {
    return std::unexpected{allowed.error()};
  }
  if (options.cores.empty()) {
    options.cores = {allowed->front()};
  }
  const auto checked = check_cores(options.cores, *allowed);
  if (!checked) {
    return std::unexpected{checked.error()};
  }
  std::vector<numa_node> nodes = nodes_of(options.cores);
  window_options wanted;
  wanted.nodes = nodes;
  std::ranges::sort(wanted.nodes);
  wanted.bytes = options.window_bytes;
  wanted.huge = options.huge_pages;
  auto memory = window::create(wanted);
  if (!memory) {
    return std::unexpected{memory.error()};
  }
  std::unique_ptr<engine> made{new engine{options, std::move(nodes), std::move(*memory), *allowed}};
  const auto started = made->start_cores(options);
  if (!started) {
    return std::unexpected{started.error()};
  }
  return made;
}

engine::engine(const engine_options& options, std::vector<numa_node> nodes, window memory,
               std::span<const core_id> allowed)
    : clock_{options.clock != nullptr ? options.clock : &own_clock_},
      nodes_{std::move(nodes)},
      memory_{std::move(memory)},
      elsewhere_{cores_without(options.cores, allowed)},
      kernel_{cores_without(options.cores, allowed)} {
  if (options.huge_pages && memory_.kind() == page_kind::normal) {
    notes_.push_back(
        "memory for devices: normal pages, not enough huge ones are free (sysctl "
        "vm.nr_hugepages)");
  }
  if (!memory_.placed() && raw(std::ranges::max(nodes_)) != 0) {
    notes_.push_back(
        "memory for devices: from any node, set_mempolicy failed (containers need SYS_NICE, and "
        "the nodes of their cores)");
  }
}

outcome<> engine::start_cores(const engine_options& options) {
  for (const core_id core : options.cores) {
    auto world = make_epoll_waiter();
    if (!world) {
      return std::unexpected{world.error()};
    }
    reactor_options wanted;
    wanted.core = core;
    wanted.frame_arena_bytes = options.frame_arena_bytes;
    wanted.poll = options.poll;
    cores_.push_back(std::make_unique<core_state>(*clock_, std::move(*world), wanted, cores_.size(),
                                                  options.cores.size()));
    auto thread = pinned_thread::start({&core, 1}, options.name + "/" + std::to_string(raw(core)),
                                       run_reactor, &cores_.back()->loop);
    if (!thread) {
      cores_.pop_back();
      return std::unexpected{thread.error()};
    }
    threads_.push_back(std::move(*thread));
  }
  return {};
}

engine::~engine() {
  end_tasks();
  for (const auto& device : devices_) {
    detach(*device);
  }
  for (const auto& each : cores_) {
    each->loop.request_stop();
  }
  threads_.clear();
  devices_.clear();
}

/// All cores are told first, then awaited: a task of one may wait for a task of another.
void engine::end_tasks() {
  std::vector<std::unique_ptr<std::binary_semaphore>> ended;
  for (std::size_t index = 0; index < cores_.size(); ++index) {
    ended.push_back(std::make_unique<std::binary_semaphore>(0));
    call(index, [this, index, &done = *ended.back()] {
      core_state& here = *cores_[index];
      here.closers.spawn(close_tasks(here.tasks, done), "end of engine");
    });
  }
  for (const auto& done : ended) {
    done->acquire();
  }
}

outcome<io::shared_device*> engine::open(const io::address& where, const open_options& options) {
  open_options wanted = options;
  wanted.queue_depth = where.queue_depth.value_or(options.queue_depth);
  const io::open_context context{.memory = memory_,
                                 .clock = *clock_,
                                 .kernel = kernel_,
                                 .queues = static_cast<std::uint32_t>(core_count()),
                                 .queue_depth = wanted.queue_depth,
                                 .read_only = options.read_only,
                                 .interrupts = cores_[0]->loop.polling() == poll_mode::adaptive};
  auto device = io::open_block(where, context);
  if (!device) {
    return std::unexpected{device.error()};
  }
  return adopt(std::move(*device), wanted);
}

outcome<io::shared_device*> engine::adopt(io::device_pointer device, const open_options& options) {
  auto shared = std::make_unique<io::shared_device>(std::move(device));
  const auto made = make_queues(*shared, options);
  if (!made) {
    return std::unexpected{made.error()};
  }
  const auto attached = attach(*shared);
  if (!attached) {
    return std::unexpected{attached.error()};
  }
  const block_info& info = shared->info();
  if (!info.note.empty()) {
    notes_.push_back(info.address + ": " + info.note);
  }
  devices_.push_back(std::move(shared));
  return devices_.back().get();
}

outcome<> engine::confine(const confinement& how) {
  if (!how.note().empty()) {
    notes_.push_back(how.note());
  }
  outcome<> entered = elsewhere_.confine(how);
  if (entered) {
    entered = kernel_.confine(how);
  }
  for (std::size_t index = 0; index < cores_.size() && entered; ++index) {
    call(index, [&] { entered = how.enter(thread_role::reactor); });
  }
  return entered ? how.enter(thread_role::control) : std::move(entered);
}

std::string engine::mishap_of(io::shared_device& device) {
  std::string told;
  call(0, [&] {
    device.device().advance(cores_[0]->loop.now());  // what has just happened is known
    told = device.device().mishap();
  });
  return told;
}

std::vector<std::string> engine::sleepless_cores() {
  std::vector<std::string> said;
  for (std::size_t index = 0; index < cores_.size(); ++index) {
    reactor_stats stats;
    call(index, [&] { stats = cores_[index]->loop.stats(); });
    if (*stats.kept_awake_by != '\0') {
      said.push_back("core " + std::to_string(raw(cores_[index]->loop.core())) +
                     " stayed awake: nothing would have woken it for " + stats.kept_awake_by);
    }
  }
  return said;
}

outcome<buffer_pool*> engine::make_pool(const pool_options& options) {
  auto made = buffer_pool::create(memory_, options);
  if (!made) {
    return std::unexpected{made.error()};
  }
  pools_.push_back(std::move(*made));
  return pools_.back().get();
}

/// Before anything of the device is served elsewhere: devices know one control thread at a time.
outcome<> engine::make_queues(io::shared_device& device, const open_options& options) {
  for (const auto& each : cores_) {
    auto queue = device.device().make_queue(options.queue_depth);
    if (!queue) {
      return std::unexpected{queue.error()};
    }
    if (options.raw) {
      device.raw_queues_.push_back(std::move(*queue));
    } else {
      device.disks_.push_back(std::make_unique<io::disk>(each->loop, std::move(*queue),
                                                         device.info(), io::disk_options{}));
    }
  }
  return {};
}

outcome<> engine::attach(io::shared_device& device) {
  result<> served;
  if (device.device().event_fd() >= 0) {  // else it has no control side
    call(0, [&] { served = cores_[0]->loop.add_service(device.control_); });
  }
  if (!served) {
    return fail(served.error(), "watch", device.info().address);
  }
  for (std::size_t index = 0; index < device.disks_.size(); ++index) {
    call(index, [&] { device.disks_[index]->attach(); });
  }
  return {};
}

void engine::detach(io::shared_device& device) {
  for (std::size_t index = 0; index < device.raw_queues_.size(); ++index) {
    call(index, [&] { device.raw_queues_[index].reset(); });
  }
  for (std::size_t index = 0; index < device.disks_.size(); ++index) {
    call(index, [&] { device.disks_[index]->detach(); });
  }
  if (device.control_.attached()) {
    call(0, [&] { cores_[0]->loop.remove_service(device.control_); });
  }
}

void engine::post(std::size_t core_index, reactor::function f, void* context) {
  CHECK(core_index < cores_.size());
  while (!cores_[core_index]->loop.post(f, context)) {
    sched_yield();  // that core has hundreds of calls to make first; it always gets to them
  }
}

}  // namespace runnel
