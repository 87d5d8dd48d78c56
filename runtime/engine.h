#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <semaphore>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "mempool/base/clock.h"
#include "mempool/base/error.h"
#include "mempool/base/units.h"
#include "mempool/pool.h"
#include "mempool/window.h"
#include "runtime/confinement.h"
#include "runtime/gate.h"
#include "runtime/io/address.h"
#include "runtime/io/device.h"
#include "runtime/io/vfio_host.h"
#include "runtime/mailbox.h"
#include "runtime/offload.h"
#include "runtime/on.h"
#include "runtime/reactor.h"
#include "runtime/task.h"
#include "runtime/thread.h"

namespace runnel {

struct engine_options {
  std::string name = "runnel";  // threads are called NAME/CORE
  std::vector<core_id> cores;   // one reactor each; empty: the first core we may run on
  std::size_t window_bytes = 64 * mib;
  bool huge_pages = true;               // a wish
  std::size_t frame_arena_bytes = mib;  // per core, for coroutines
  poll_mode poll = poll_mode::busy;
  const clock_source* clock = nullptr;  // borrowed; null: a TSC clock of the engine's own
};

struct open_options {
  std::uint32_t queue_depth = 128;  // per core, unless the address says otherwise
  bool read_only = false;           // for files one may not write
  bool raw = false;                 // no coroutines: the user polls `shared_device::queue` itself
};

namespace detail {

/// How a root task on a core hands its result to the thread that waits for it.
template <class T>
struct root_state {
  std::optional<T> value;
  std::binary_semaphore ended{0};
};

}  // namespace detail

/// The result of a task that runs on some core. Must be taken before it is dropped: the task's
/// arguments usually live where this does.
template <class T>
class running {
 public:
  using state = detail::root_state<detail::stored<T>>;
  explicit running(std::unique_ptr<state> shared) noexcept : state_{std::move(shared)} {}
  running(running&&) noexcept = default;
  running& operator=(running&&) noexcept = default;
  running(const running&) = delete;
  running& operator=(const running&) = delete;
  ~running() { CHECK(state_ == nullptr); }

  /// Blocks until the task has ended, at most `limit`. @return whether it has
  [[nodiscard]] bool wait_for(nanoseconds limit) {
    if (!state_->ended.try_acquire_for(limit)) {
      return false;
    }
    state_->ended.release();  // for `get`
    return true;
  }

  /// Blocks until the task has ended. @context control thread
  [[nodiscard]] T get() {
    const std::unique_ptr<state> taken = std::move(state_);
    taken->ended.acquire();
    CHECK(taken->value.has_value());
    if constexpr (!std::is_void_v<T>) {
      return std::move(*taken->value);
    }
  }

 private:
  std::unique_ptr<state> state_;
};

/// Everything one application runs on: memory for devices, one pinned thread with a reactor per
/// core, and the devices it opened. It owns no process-wide state: several engines may live side
/// by side, and nothing of one is left when it is gone.
/// @context control thread, unless stated otherwise
class engine {
 public:
  /// Checks the cores, reserves the memory, starts the threads.
  /// @error not_found: a core that does not exist or is not allowed here; os, no_memory
  [[nodiscard]] static outcome<std::unique_ptr<engine>> create(engine_options options);
  engine(const engine&) = delete;
  engine& operator=(const engine&) = delete;
  /// Cancels what still runs and waits for its end, closes the devices, joins the threads.
  ~engine();

  [[nodiscard]] window& memory() noexcept { return memory_; }
  [[nodiscard]] const clock_source& clock() const noexcept { return *clock_; }
  [[nodiscard]] io::vfio_host& kernel() noexcept { return kernel_; }
  [[nodiscard]] std::size_t core_count() const noexcept { return cores_.size(); }
  /// The reactor of the `index`th core of the options. From here only its `post` may be called;
  /// tasks of other cores go there by `co_await on(engine.core(index), f)`.
  [[nodiscard]] reactor& core(std::size_t index) noexcept { return cores_[index]->loop; }

  /// The node whose memory is next to the `index`th core; a share of the engine's memory is there.
  [[nodiscard]] numa_node node_of_core(std::size_t index) const noexcept { return nodes_[index]; }

  /// Opens a block device with one queue on each core. The engine owns it; it lives as long.
  /// @error what the device says; the failure names the address and the remedy
  [[nodiscard]] outcome<io::shared_device*> open(const io::address& where,
                                                 const open_options& options = {});

  /// The same for a device that is ready. Its memory, if it reaches any, is this engine's.
  [[nodiscard]] outcome<io::shared_device*> adopt(io::device_pointer device,
                                                  const open_options& options = {});

  /// What was wished for, could not be had and was replaced, one sentence each, for the user to
  /// read: pages of its memory, ways to its devices.
  [[nodiscard]] const std::vector<std::string>& notes() const noexcept { return notes_; }

  /// Confines its threads and, last, the calling one: nothing can be opened from now on. What it
  /// notes is noted. @error os; then the engine is good for nothing but to be ended
  [[nodiscard]] outcome<> confine(const confinement& how);

  /// One sentence for each core that was idle and could not sleep: what kept it awake.
  [[nodiscard]] std::vector<std::string> sleepless_cores();

  /// See block_device::mishap. @context control thread; waits for the first core
  [[nodiscard]] std::string mishap_of(io::shared_device& device);

  /// Makes a pool in the engine's memory. The engine owns it and drops it after its devices: a
  /// request that timed out leaves its buffer with the device, and it comes home when that is
  /// closed.
  /// @error no_memory, with the bytes that would be needed
  [[nodiscard]] outcome<buffer_pool*> make_pool(const pool_options& options);

  /// Starts `f(reactor&) -> task<T>` on a core; `f` is moved there and lives until the task ends,
  /// so it may be a lambda with captures that returns a task (but is not itself a coroutine).
  template <class F>
  [[nodiscard]] auto start(std::size_t core_index, F f)
      -> running<typename std::invoke_result_t<F&, reactor&>::value_type>;

  /// The same, and waits for the result.
  template <class F>
  auto run(std::size_t core_index, F f) {
    return start(core_index, std::move(f)).get();
  }

  /// Threads for work that would hold a core up: `co_await offload(engine.elsewhere(), f)`.
  [[nodiscard]] offloader& elsewhere() noexcept { return elsewhere_; }

  /// Calls `f()` on a core and waits until it returned; for setting up what lives there.
  template <class F>
  void call(std::size_t core_index, F&& f);

 private:
  struct core_state {
    core_state(const clock_source& clock, std::unique_ptr<waiter> world,
               const reactor_options& options, std::size_t index, std::size_t count)
        : loop{clock, std::move(world), options},
          tasks{loop},
          closers{loop},
          mail{loop, tasks, index, count} {}
    reactor loop;
    gate tasks;
    gate closers;  // of the tasks that close `tasks`
    mailbox mail;
  };

  engine(const engine_options& options, std::vector<numa_node> nodes, window memory,
         std::span<const core_id> allowed);
  [[nodiscard]] outcome<> start_cores(const engine_options& options);
  [[nodiscard]] outcome<> make_queues(io::shared_device& device, const open_options& options);
  [[nodiscard]] outcome<> attach(io::shared_device& device);
  void detach(io::shared_device& device);
  void post(std::size_t core_index, reactor::function f, void* context);
  void end_tasks();

  const tsc_clock own_clock_;
  const clock_source* clock_;
  std::vector<numa_node> nodes_;  // of the cores
  window memory_;
  std::vector<std::string> notes_;
  std::vector<std::unique_ptr<core_state>> cores_;
  offloader elsewhere_;  // gone before the cores: its threads may still be leaving one's inlet
  io::vfio_host kernel_;
  std::vector<std::unique_ptr<buffer_pool>> pools_;
  std::vector<std::unique_ptr<io::shared_device>> devices_;
  std::vector<pinned_thread> threads_;
};

namespace detail {

/// Runs `f`'s task to its end and hands the result over. The frame holds `f`, so what it captured
/// outlives the task it made.
template <class F, class T>
task<> run_root(F f, root_state<stored<T>>& state) {
  task<T> work = f(*reactor::current());
  if constexpr (std::is_void_v<T>) {
    co_await std::move(work);
    state.value.emplace();
  } else {
    T value = co_await std::move(work);
    state.value.emplace(std::move(value));
  }
  state.ended.release();
}

}  // namespace detail

template <class F>
auto engine::start(std::size_t core_index, F f)
    -> running<typename std::invoke_result_t<F&, reactor&>::value_type> {
  using value_type = typename std::invoke_result_t<F&, reactor&>::value_type;
  using state = detail::root_state<detail::stored<value_type>>;
  struct launch {
    F f;
    state& shared;
    gate& tasks;
  };
  auto shared = std::make_unique<state>();
  auto* order = new launch{std::move(f), *shared, cores_[core_index]->tasks};
  post(
      core_index,
      [](void* context) noexcept {
        const std::unique_ptr<launch> taken{static_cast<launch*>(context)};
        taken->tasks.spawn(detail::run_root<F, value_type>(std::move(taken->f), taken->shared),
                           "root");
      },
      order);
  return running<value_type>{std::move(shared)};
}

template <class F>
void engine::call(std::size_t core_index, F&& f) {
  struct visit {
    F& f;
    std::binary_semaphore ended{0};
  };
  visit order{f};
  post(
      core_index,
      [](void* context) noexcept {
        visit& taken = *static_cast<visit*>(context);
        taken.f();
        taken.ended.release();
      },
      &order);
  order.ended.acquire();
}

}  // namespace runnel
