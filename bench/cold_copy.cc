#include "bench/cold_copy.h"

#include <immintrin.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <numeric>
#include <vector>

#include "bench/samples.h"
#include "drivers/soft/copy.h"
#include "mempool/base/clock.h"
#include "mempool/base/prefetch.h"
#include "mempool/base/units.h"
#include "mempool/private_memory.h"
#include "runtime/thread.h"

namespace runnel::bench {
namespace {

constexpr std::size_t block_bytes = 4096;
constexpr std::uint64_t memory_bytes = 256 * mib;
constexpr std::size_t buffers = 128;  // as many as I/Os in flight
constexpr std::size_t burst = 8;      // blocks that are known together
constexpr std::size_t blocks_in_a_row = burst * 5000;
constexpr std::size_t blocks_alone = 4000;

struct measurement {
  std::byte* memory;
  std::byte* buffer;
  cold_copy what;
  std::uint64_t scatter = 0;
  double ns = 0;

  std::byte* random_place() noexcept {
    scatter = scatter * 6'364'136'223'846'793'005U + 1'442'695'040'888'963'407U;
    return memory + (scatter >> 33U) % (memory_bytes / block_bytes) * block_bytes;
  }
};

double ns_of(std::uint64_t cycles) noexcept {
  return static_cast<double>(cycles) * 1e9 / static_cast<double>(tsc_hz());
}

/// @param copy  (to, from, what is copied next from where this one reads, or null)
template <class Copy>
double ns_in_a_row(measurement& in, Copy copy) {
  std::array<std::byte*, burst + 1> places{};  // null behind the last
  const std::uint64_t start = tsc_now();
  for (std::size_t done = 0; done < blocks_in_a_row; done += burst) {
    for (std::size_t i = 0; i < burst; ++i) {
      places[i] = in.random_place();
      prefetch_to_read(places[i]);
    }
    for (std::size_t i = 0; i < burst; ++i) {
      std::byte* const near = in.buffer + (done + i) % buffers * block_bytes;
      in.what.which == direction::into_memory ? copy(places[i], near, nullptr)
                                              : copy(near, places[i], places[i + 1]);
    }
  }
  soft::finish_streaming();
  return ns_of(tsc_now() - start) / static_cast<double>(blocks_in_a_row);
}

/// One copy at a time, from when all before has ended until its stores have: the mean, for rows are
/// means, without those in which somebody else had the core.
template <class Copy>
double cycles_alone(measurement& in, Copy copy) {
  std::vector<double> cycles(blocks_alone);
  for (double& one : cycles) {
    std::byte* const place = in.random_place();
    _mm_mfence();
    _mm_lfence();
    const std::uint64_t start = tsc_now();
    _mm_lfence();
    in.what.which == direction::into_memory ? copy(place, in.buffer, nullptr)
                                            : copy(in.buffer, place, nullptr);
    _mm_mfence();
    _mm_lfence();
    one = static_cast<double>(tsc_now() - start);
  }
  const double longest = 10 * median_of(cycles);
  std::erase_if(cycles, [longest](double one) { return one > longest; });
  return std::accumulate(cycles.begin(), cycles.end(), 0.0) / static_cast<double>(cycles.size());
}

template <class Copy>
double ns_of_kernel(measurement& in, Copy copy) {
  if (in.what.with == company::in_a_row) {
    return ns_in_a_row(in, copy);
  }
  const auto nothing = [](std::byte*, const std::byte*, const std::byte*) {};
  const double cycles = cycles_alone(in, copy) - cycles_alone(in, nothing);
  return ns_of(static_cast<std::uint64_t>(std::max(0.0, cycles)));
}

void measure(void* context) noexcept {
  auto& run = *static_cast<measurement*>(context);
  const auto cached = [](std::byte* to, const std::byte* from, const std::byte*) {
    soft::copy_cached(to, from, block_bytes);
  };
  const auto cold = [](std::byte* to, const std::byte* from, const std::byte* next) {
    soft::copy_cold(to, from, block_bytes, next);
  };
  const auto streaming = [](std::byte* to, const std::byte* from, const std::byte*) {
    soft::copy_streaming(to, from, block_bytes);
  };
  run.ns =
      std::min({ns_of_kernel(run, cached), ns_of_kernel(run, cold), ns_of_kernel(run, streaming)});
}

}  // namespace

outcome<double> cold_copy_ns(unsigned core, const cold_copy& what) {
  static const outcome<private_memory> memory = private_memory::create(memory_bytes);
  const auto buffer = private_memory::create(buffers * block_bytes);
  if (!memory || !buffer) {
    return std::unexpected{memory ? buffer.error() : memory.error()};
  }
  measurement run{.memory = memory->bytes().data(), .buffer = buffer->bytes().data(), .what = what};
  {
    const core_id where{core};
    const auto thread = pinned_thread::start({&where, 1}, "cold copy", measure, &run);
    if (!thread) {
      return std::unexpected{thread.error()};
    }
  }
  return run.ns;
}

}  // namespace runnel::bench
