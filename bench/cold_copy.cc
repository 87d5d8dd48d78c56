#include "bench/cold_copy.h"

#include <algorithm>
#include <cstddef>

#include "drivers/soft/copy.h"
#include "mempool/base/clock.h"
#include "mempool/private_memory.h"
#include "runtime/thread.h"

namespace runnel::bench {
namespace {

constexpr std::size_t block_bytes = 4096;
constexpr std::uint64_t memory_bytes = 256 * mib;
constexpr std::size_t buffers = 128;  // as many as I/Os in flight
constexpr int blocks = 50'000;

struct measurement {
  std::byte* memory;
  std::byte* buffer;
  direction which;
  double ns = 0;
};

template <class Copy>
double ns_per_block(const measurement& in, Copy&& copy) {
  std::uint64_t scatter = 0;
  const std::uint64_t start = tsc_now();
  for (int i = 0; i < blocks; ++i) {
    scatter = scatter * 6'364'136'223'846'793'005U + 1'442'695'040'888'963'407U;
    std::byte* const place =
        in.memory + (scatter >> 33U) % (memory_bytes / block_bytes) * block_bytes;
    std::byte* const near = in.buffer + static_cast<std::size_t>(i) % buffers * block_bytes;
    in.which == direction::into_memory ? copy(place, near) : copy(near, place);
  }
  soft::finish_streaming();
  return static_cast<double>(tsc_now() - start) * 1e9 / static_cast<double>(tsc_hz()) / blocks;
}

void measure(void* context) noexcept {
  auto& run = *static_cast<measurement*>(context);
  const auto cached = [](std::byte* to, const std::byte* from) {
    soft::copy_cached(to, from, block_bytes);
  };
  const auto streaming = [](std::byte* to, const std::byte* from) {
    soft::copy_streaming(to, from, block_bytes);
  };
  run.ns = std::min(ns_per_block(run, cached), ns_per_block(run, streaming));
}

}  // namespace

outcome<double> cold_copy_ns(unsigned core, direction which) {
  static const outcome<private_memory> memory = private_memory::create(memory_bytes);
  const auto buffer = private_memory::create(buffers * block_bytes);
  if (!memory || !buffer) {
    return std::unexpected{memory ? buffer.error() : memory.error()};
  }
  measurement run{
      .memory = memory->bytes().data(), .buffer = buffer->bytes().data(), .which = which};
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
