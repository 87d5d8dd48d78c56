#include "mempool/base/clock.h"

#include <ctime>

#include "mempool/base/bits.h"

namespace runnel {
namespace {

std::uint64_t monotonic_ns() noexcept {
  timespec time{};
  clock_gettime(CLOCK_MONOTONIC, &time);
  return static_cast<std::uint64_t>(time.tv_sec) * 1'000'000'000U +
         static_cast<std::uint64_t>(time.tv_nsec);
}

std::uint64_t measure_tsc_hz() noexcept {
  constexpr std::uint64_t window_ns = 5'000'000;
  const std::uint64_t start_ns = monotonic_ns();
  const std::uint64_t start_cycles = tsc_now();
  std::uint64_t end_ns = start_ns;
  while (end_ns - start_ns < window_ns) {
    end_ns = monotonic_ns();
  }
  const std::uint64_t cycles = tsc_now() - start_cycles;
  return cycles * 1'000'000'000U / (end_ns - start_ns);
}

}  // namespace

std::uint64_t tsc_hz() noexcept {
  static const std::uint64_t hz = measure_tsc_hz();
  return hz;
}

tsc_clock::tsc_clock() noexcept
    : start_cycles_{tsc_now()},
      nanoseconds_per_cycle_q32_{(std::uint64_t{1'000'000'000} << 32U) / tsc_hz()} {}

instant tsc_clock::now() const noexcept {
  const std::uint64_t cycles = tsc_now() - start_cycles_;
  const std::uint64_t ns = multiply_shift(cycles, nanoseconds_per_cycle_q32_, 32);
  return instant{nanoseconds{static_cast<std::int64_t>(ns)}};
}

}  // namespace runnel
