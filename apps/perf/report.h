#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "apps/perf/options.h"
#include "mempool/base/error.h"
#include "mempool/base/units.h"
#include "runtime/histogram.h"

namespace runnel::perf {

/// What one core measured between the end of the warm-up and the end of the run.
struct core_result {
  unsigned core = 0;
  std::optional<numa_node> memory_node;  // where its buffers lie, as far as the kernel tells
  std::uint64_t ios = 0;
  std::uint64_t errors = 0;      // I/Os that ended with a bad status
  std::uint64_t mismatches = 0;  // reads that did not deliver the last acknowledged write
  std::uint64_t busy_cycles = 0;
  std::uint64_t busy_turns = 0;
  nanoseconds stamp_resolution{1};  // I/Os of one burst share a time stamp
  std::uint64_t heap_allocations = 0;
  nanoseconds elapsed{};
  nanoseconds off_core{};  // of that: others were on the core
  histogram latency;
  error first_error;
};

struct report {
  options asked;
  std::string device;
  std::size_t page_bytes = 0;  // of the buffers' memory
  std::vector<core_result> cores;
  std::optional<std::uint64_t> distinct_slots;  // places the measured I/Os went to, if counted
  std::vector<std::string> notes;               // see engine::notes
  std::string mishap;                           // see block_device::mishap

  [[nodiscard]] std::uint64_t ios() const noexcept;
  [[nodiscard]] std::uint64_t errors() const noexcept;  // mismatches included
  [[nodiscard]] double iops() const noexcept;
};

/// "randread"
[[nodiscard]] const char* name_of(pattern rw) noexcept;

/// One JSON object. Latencies in ns.
[[nodiscard]] std::string to_json(const report& run);

/// The table a person reads: rate, percentiles, and a histogram drawn in text.
[[nodiscard]] std::string to_text(const report& run);

}  // namespace runnel::perf
