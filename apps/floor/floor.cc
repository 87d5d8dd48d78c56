#include "apps/floor/floor.h"

#include <fmt/format.h>
#include <pthread.h>
#include <sched.h>
#include <sys/resource.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <fstream>
#include <memory>
#include <thread>
#include <vector>

#include "mempool/base/bits.h"
#include "mempool/base/check.h"
#include "mempool/base/clock.h"
#include "mempool/base/prefetch.h"

namespace runnel::floor {
namespace {

// Two threads of one physical core need 95 (Intel) to 300 cycles (AMD); two cores 540 (Intel, one
// mesh) to 1,450 (AMD, two dies).
constexpr double far_cycles_min = 400;

result<> pin_this_thread(unsigned core) noexcept {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(core, &set);
  if (pthread_setaffinity_np(pthread_self(), sizeof set, &set) != 0) {
    return fail(errc::not_found);
  }
  return {};
}

std::uint64_t preemptions_of_this_thread() noexcept {
  rusage usage{};
  getrusage(RUSAGE_THREAD, &usage);
  return static_cast<std::uint64_t>(usage.ru_nivcsw);
}

/// Runs `here` on one core and `there` on another, both pinned, and returns when both have ended.
template <class Here, class There>
outcome<> on_two_cores(unsigned core_here, unsigned core_there, Here here, There there) {
  std::array<result<>, 2> pinned;
  std::atomic<int> arrived = 0;
  const auto start = [&](unsigned core, result<>& mine) {
    mine = pin_this_thread(core);
    arrived.fetch_add(1, std::memory_order_acq_rel);
    while (arrived.load(std::memory_order_acquire) < 2) {
      std::this_thread::yield();
    }
    return pinned[0].has_value() && pinned[1].has_value();
  };
  std::thread first{[&] {
    if (start(core_here, pinned[0])) {
      here();
    }
  }};
  std::thread second{[&] {
    if (start(core_there, pinned[1])) {
      there();
    }
  }};
  first.join();
  second.join();
  for (const unsigned i : {0U, 1U}) {
    if (!pinned[i]) {
      return fail(pinned[i].error(), "pin to",
                  fmt::format("core {}", i == 0 ? core_here : core_there),
                  "choose cores from `taskset -p $$`");
    }
  }
  return {};
}

struct alignas(cache_line_bytes) shared_word {
  std::atomic<std::uint64_t> value = 0;
};

double median(std::vector<double>& samples) {
  CHECK(!samples.empty());
  const auto middle = samples.begin() + static_cast<std::ptrdiff_t>(samples.size() / 2);
  std::nth_element(samples.begin(), middle, samples.end());
  return *middle;
}

struct alignas(64) submission {
  std::array<std::uint64_t, 8> words;
};
struct alignas(16) completion {
  std::uint64_t result;
  std::uint32_t queue;
  std::uint16_t id;
  std::atomic<std::uint16_t> phase;
};

constexpr std::uint32_t ring_entries = 1024;

/// A queue pair in memory that both threads see; every word with one writer has its own line.
struct queue_memory {
  std::array<submission, ring_entries> sq{};
  std::array<completion, ring_entries> cq{};
  alignas(cache_line_bytes) std::atomic<std::uint32_t> sq_doorbell = 0;
  alignas(cache_line_bytes) std::atomic<bool> stop = false;
};

void echo_target(queue_memory& shared) noexcept {
  std::uint32_t head = 0;
  while (!shared.stop.load(std::memory_order_relaxed)) {
    // pairs with the release in `ring`: entries come before the doorbell
    const std::uint32_t tail = shared.sq_doorbell.load(std::memory_order_acquire);
    while (head != tail) {
      const std::uint32_t slot = head % ring_entries;
      completion& entry = shared.cq[slot];
      entry.result = 0;
      entry.id = static_cast<std::uint16_t>(shared.sq[slot].words[0]);
      const auto lap = static_cast<std::uint16_t>((head / ring_entries) & 1U);
      entry.phase.store(lap ^ 1U, std::memory_order_release);  // after the rest of the entry
      ++head;
    }
  }
}

/// What an initiator does may be cheaper or dearer, by machine and placement.
struct echo_manner {
  std::uint32_t ring_every;  // a power of two; and at once when it begins a burst
  bool prefetches;           // the entries that it will write, and read, soon
};
constexpr echo_manner manners[] = {{8, false}, {16, false}, {32, false},
                                   {8, true},  {16, true},  {32, true}};

/// The initiator's side: keeps `depth` commands in flight.
class echo_initiator {
 public:
  echo_initiator(queue_memory& shared, std::uint32_t depth, const echo_manner& manner) noexcept
      : shared_{shared}, depth_{depth}, manner_{manner} {}

  void run_round(std::uint64_t ios) noexcept {
    const std::uint64_t goal = completed_ + ios;
    while (completed_ < goal) {
      submit();
      collect();
    }
  }

 private:
  void submit() noexcept {
    std::uint32_t unpublished = 0;
    while (tail_ - head_ < depth_) {
      submission& entry = shared_.sq[tail_ % ring_entries];
      if (manner_.prefetches) {
        prefetch_to_write(&shared_.sq[(tail_ + slots_ahead) % ring_entries]);
      }
      entry.words = {tail_ & 0xffffU, 1, 0, tail_, tail_, 0, 7, 0};
      ++tail_;
      ++unpublished;
      if (unpublished == 1 || (unpublished & (manner_.ring_every - 1)) == 0) {
        ring();
      }
    }
    ring();
  }

  void ring() noexcept { shared_.sq_doorbell.store(tail_, std::memory_order_release); }

  void collect() noexcept {
    for (;;) {
      const completion& entry = shared_.cq[head_ % ring_entries];
      const auto wanted = static_cast<std::uint16_t>(((head_ / ring_entries) & 1U) ^ 1U);
      if (head_ == tail_ || entry.phase.load(std::memory_order_acquire) != wanted) {
        return;
      }
      if (manner_.prefetches) {
        prefetch_to_read(&shared_.cq[(head_ + completions_ahead) % ring_entries]);
      }
      CHECK(entry.id == (head_ & 0xffffU));
      ++head_;
      ++completed_;
    }
  }

  static constexpr std::uint32_t slots_ahead = 4;
  static constexpr std::uint32_t completions_ahead = 8;  // two lines

  queue_memory& shared_;
  std::uint32_t depth_;
  echo_manner manner_;
  std::uint32_t tail_ = 0;
  std::uint32_t head_ = 0;
  std::uint64_t completed_ = 0;
};

struct echo_cores {
  unsigned initiator;
  unsigned target;
};

outcome<echo_result> echo(const echo_cores& cores, std::uint32_t depth, const echo_manner& manner,
                          double seconds) {
  constexpr std::uint64_t ios_per_round = 4096;
  const auto shared = std::make_unique<queue_memory>();
  echo_result found;
  std::uint64_t preempted_there = 0;
  std::vector<double> samples;

  const auto serve = [&] {
    const std::uint64_t before = preemptions_of_this_thread();
    echo_target(*shared);
    preempted_there = preemptions_of_this_thread() - before;
  };
  const auto initiate = [&] {
    const tsc_clock clock;
    const std::uint64_t before = preemptions_of_this_thread();
    echo_initiator initiator{*shared, depth, manner};
    initiator.run_round(ios_per_round);  // warm-up
    const instant end = clock.now() + nanoseconds{static_cast<std::int64_t>(seconds * 1e9)};
    for (instant start = clock.now(); start < end;) {
      initiator.run_round(ios_per_round);
      const instant stop = clock.now();
      samples.push_back(static_cast<double>((stop - start).count()) / ios_per_round);
      start = stop;
    }
    shared->stop.store(true, std::memory_order_relaxed);
    found.preemptions = preemptions_of_this_thread() - before;
  };
  if (auto done = on_two_cores(cores.initiator, cores.target, initiate, serve); !done) {
    return std::unexpected{done.error()};
  }
  found.ios = samples.size() * ios_per_round;
  found.ns_per_io = median(samples);
  found.preemptions += preempted_there;
  return found;
}

}  // namespace

placement placement_of(double cycles) noexcept {
  return cycles < far_cycles_min ? placement::near : placement::far;
}

outcome<ping_pong_result> ping_pong(unsigned core_a, unsigned core_b) {
  constexpr std::uint64_t rounds = 64;
  constexpr std::uint64_t trips_per_round = 256;
  shared_word word;
  std::vector<double> samples;
  samples.reserve(rounds);

  const auto serve = [&word] {
    for (std::uint64_t trip = 0; trip < rounds * trips_per_round; ++trip) {
      while (word.value.load(std::memory_order_acquire) != (2 * trip) + 1) {
      }
      word.value.store((2 * trip) + 2, std::memory_order_release);
    }
  };
  const auto bounce = [&word, &samples] {
    std::uint64_t trip = 0;
    for (std::uint64_t round = 0; round < rounds; ++round) {
      const std::uint64_t start = tsc_now();
      for (std::uint64_t i = 0; i < trips_per_round; ++i, ++trip) {
        word.value.store((2 * trip) + 1, std::memory_order_release);
        while (word.value.load(std::memory_order_acquire) != (2 * trip) + 2) {
        }
      }
      samples.push_back(static_cast<double>(tsc_now() - start) / trips_per_round);
    }
  };
  if (auto done = on_two_cores(core_a, core_b, bounce, serve); !done) {
    return std::unexpected{done.error()};
  }
  ping_pong_result found;
  found.cycles = median(samples);
  found.state = placement_of(found.cycles);
  return found;
}

outcome<echo_result> bare_echo(unsigned initiator_core, unsigned target_core, std::uint32_t depth,
                               double seconds) {
  CHECK(depth >= 1);
  CHECK(depth <= ring_entries);
  outcome<echo_result> best;
  for (const echo_manner& manner : manners) {
    auto tried = echo({initiator_core, target_core}, depth, manner, seconds / std::size(manners));
    if (!tried) {
      return tried;
    }
    if (best->ios == 0 || tried->ns_per_io < best->ns_per_io) {
      best = std::move(tried);
    }
  }
  return best;
}

std::string governor(unsigned core) {
  std::ifstream file{fmt::format("/sys/devices/system/cpu/cpu{}/cpufreq/scaling_governor", core)};
  std::string name;
  return file >> name ? name : "none";
}

}  // namespace runnel::floor
