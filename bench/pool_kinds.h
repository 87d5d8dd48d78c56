#pragma once

#include <fmt/format.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "bench/contest.h"
#include "bench/need.h"
#include "bench/pinned.h"
#include "bench/samples.h"
#include "mempool/base/bits.h"
#include "mempool/base/check.h"
#include "mempool/base/clock.h"
#include "mempool/buffer_batch.h"
#include "mempool/pool.h"
#include "mempool/window.h"

#if __has_include(<rte_mempool.h>)
#define RUNNEL_BENCH_DPDK
#include <rte_eal.h>
#include <rte_lcore.h>
#include <rte_log.h>
#include <rte_mempool.h>
#endif

// Our pool and DPDK's, with one face for `cycles_per_buffer`.
namespace runnel::bench {

inline constexpr std::uint32_t pooled_buffers = 1024;
inline constexpr std::size_t pooled_bytes = 2048;

/// For the compiler, somebody reads and writes what is there.
inline void use(const void* memory) noexcept {
  asm volatile("" : : "r"(memory) : "memory");
}

class our_pool {
 public:
  template <std::size_t Batch>
  void get_and_put() noexcept {
    if constexpr (Batch == 1) {
      const buffer taken = pool_->get();
      use(taken.data());
    } else {
      buffer_batch taken{*pool_, Batch};
      use(static_cast<const void*>(taken.buffers().data()));
    }
  }

 private:
  window memory_ = std::move(*window::create({.bytes = 4 * mib, .huge = false}));
  std::unique_ptr<buffer_pool> pool_ = std::move(*buffer_pool::create(
      memory_, {.buffer_bytes = pooled_bytes, .count = pooled_buffers, .alignment = 64}));
};

/// TSC cycles to take one buffer and give it back, in batches: the median over slices.
template <class Pool, std::size_t Batch>
[[nodiscard]] double cycles_per_buffer(core_id core, double seconds) {
  constexpr int batches = 100'000 / Batch;
  std::vector<double> samples;
  auto measure = [&samples, seconds] {
    Pool pool;
    std::uint64_t now = tsc_now();
    const std::uint64_t end =
        now + static_cast<std::uint64_t>(seconds * static_cast<double>(tsc_hz()));
    while (now < end) {
      const std::uint64_t began = tsc_now();
      for (int i = 0; i < batches; ++i) {
        pool.template get_and_put<Batch>();
      }
      now = tsc_now();
      samples.push_back(static_cast<double>(now - began) / (batches * double{Batch}));
    }
  };
  {
    const pinned_thread thread = start_on(core, "pool", measure);
  }
  return median_of(samples);
}

template <class Pool, std::size_t Batch>
contestant timed(const std::string& name, core_id core, double known_cycles = 0) {
  return {.name = name,
          .cost = [core](double seconds) { return cycles_per_buffer<Pool, Batch>(core, seconds); },
          .known_cost = known_cycles};
}

template <std::size_t Batch>
std::string mempool_name() {
  return fmt::format("rte_mempool, get, put of {}", Batch);
}

#if defined(RUNNEL_BENCH_DPDK)
/// DPDK's process-wide part: no huge pages, no devices, logs to standard error.
class mempool_environment {
 public:
  explicit mempool_environment(core_id core) {
    std::vector<std::string> words{"bench",
                                   "--no-huge",
                                   "--no-pci",
                                   "--no-shconf",
                                   "--no-telemetry",
                                   "-m",
                                   "64",
                                   "-l",
                                   std::to_string(raw(core))};
    std::vector<char*> pointers;
    pointers.reserve(words.size());
    for (std::string& word : words) {
      pointers.push_back(word.data());
    }
    rte_openlog_stream(stderr);
    CHECK(rte_eal_init(static_cast<int>(pointers.size()), pointers.data()) >= 0);
  }
  mempool_environment(const mempool_environment&) = delete;
  mempool_environment& operator=(const mempool_environment&) = delete;
  ~mempool_environment() { rte_eal_cleanup(); }
};

/// On a thread that DPDK knows, else it goes without the cache.
class dpdk_mempool {
 public:
  dpdk_mempool() {
    CHECK(rte_thread_register() == 0);
    pool_ = rte_mempool_create("bench", pooled_buffers - 1, pooled_bytes, cached, 0, nullptr,
                               nullptr, nullptr, nullptr, SOCKET_ID_ANY, 0);
    CHECK(pool_ != nullptr);
    CHECK(rte_mempool_default_cache(pool_, rte_lcore_id()) != nullptr);
  }
  dpdk_mempool(const dpdk_mempool&) = delete;
  dpdk_mempool& operator=(const dpdk_mempool&) = delete;
  ~dpdk_mempool() {
    rte_mempool_free(pool_);
    rte_thread_unregister();
  }

  template <std::size_t Batch>
  void get_and_put() noexcept {
    alignas(cache_line_bytes) std::array<void*, Batch> taken;
    if constexpr (Batch == 1) {
      CHECK(rte_mempool_get(pool_, taken.data()) == 0);
      use(taken[0]);
      rte_mempool_put(pool_, taken[0]);
    } else {
      CHECK(rte_mempool_get_bulk(pool_, taken.data(), Batch) == 0);
      use(static_cast<const void*>(taken.data()));
      rte_mempool_put_bulk(pool_, taken.data(), Batch);
    }
  }

 private:
  static constexpr unsigned cached = 512;
  rte_mempool* pool_ = nullptr;
};

template <std::size_t Batch>
contestant timed_mempool(core_id core) {
  return timed<dpdk_mempool, Batch>(mempool_name<Batch>(), core, Batch == 1 ? 12.2 : 1.2);
}
#else
struct mempool_environment {
  explicit mempool_environment(core_id) {}
};
template <std::size_t Batch>
contestant timed_mempool(core_id) {
  return {.name = mempool_name<Batch>(), .lacks = "libdpdk-dev"};
}
#endif

}  // namespace runnel::bench
