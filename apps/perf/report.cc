#include "apps/perf/report.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <iterator>
#include <numeric>
#include <utility>

namespace runnel::perf {
namespace {

struct percentile {
  const char* label;  // for people
  const char* key;    // for programs
  double fraction;
};
constexpr std::array<percentile, 5> percentiles{{{"p50", "p50", 0.5},
                                                 {"p90", "p90", 0.9},
                                                 {"p99", "p99", 0.99},
                                                 {"p99.9", "p99_9", 0.999},
                                                 {"p99.99", "p99_99", 0.9999}}};

histogram merged_latency(const report& run) {
  histogram all;
  for (const core_result& core : run.cores) {
    all.merge(core.latency);
  }
  return all;
}

template <class Field>
std::uint64_t total(const report& run, Field field) {
  return std::accumulate(
      run.cores.begin(), run.cores.end(), std::uint64_t{0},
      [field](std::uint64_t sum, const core_result& core) { return sum + core.*field; });
}

double off_core_share(const core_result& core) {
  return core.elapsed.count() <= 0 ? 0
                                   : static_cast<double>(core.off_core.count()) /
                                         static_cast<double>(core.elapsed.count());
}

double cycles_per_io(const core_result& core) {
  return core.ios == 0 ? 0 : static_cast<double>(core.busy_cycles) / static_cast<double>(core.ios);
}

/// How far apart two latencies must be to be told apart: by the buckets and by the time stamps.
std::uint64_t resolution_of(const report& run, const histogram& latency) {
  std::uint64_t resolution = histogram::resolution_at(latency.quantile(0.5));
  for (const core_result& core : run.cores) {
    resolution = std::max(resolution, static_cast<std::uint64_t>(core.stamp_resolution.count()));
  }
  return resolution;
}

/// "850 ns", "12.3 us": three digits that matter.
std::string readable(std::uint64_t ns) {
  const auto value = static_cast<double>(ns);
  if (ns < 1'000) {
    return fmt::format("{} ns", ns);
  }
  if (ns < 1'000'000) {
    return fmt::format("{:.3g} us", value / 1e3);
  }
  return ns < 1'000'000'000 ? fmt::format("{:.3g} ms", value / 1e6)
                            : fmt::format("{:.3g} s", value / 1e9);
}

/// A bar per power of two of the latency, as wide as its share of the I/Os.
void draw_histogram(const histogram& latency, std::string& out) {
  constexpr double width = 50;
  std::array<std::uint64_t, 64> octaves{};
  latency.for_each_bucket([&octaves](std::uint64_t low, std::uint64_t, std::uint64_t count) {
    octaves[static_cast<std::size_t>(std::bit_width(low | 1) - 1)] += count;
  });
  const auto first = std::find_if(octaves.begin(), octaves.end(), [](auto n) { return n != 0; });
  const auto last = std::find_if(octaves.rbegin(), octaves.rend(), [](auto n) { return n != 0; });
  const std::uint64_t highest = *std::max_element(octaves.begin(), octaves.end());
  for (auto octave = first; octave < last.base(); ++octave) {
    const auto power = static_cast<unsigned>(octave - octaves.begin());
    const double share = static_cast<double>(*octave) / static_cast<double>(highest);
    const auto marks = static_cast<std::size_t>((share * width) + (*octave != 0 ? 1 : 0));
    fmt::format_to(std::back_inserter(out), "  {:>9} .. {:<9} {:>12}  {}\n",
                   readable(std::uint64_t{1} << power), readable((std::uint64_t{2} << power) - 1),
                   *octave, std::string(marks, '#'));
  }
}

}  // namespace

std::uint64_t report::ios() const noexcept {
  return total(*this, &core_result::ios);
}

std::uint64_t report::errors() const noexcept {
  return total(*this, &core_result::errors) + total(*this, &core_result::mismatches);
}

double report::iops() const noexcept {
  double sum = 0;
  for (const core_result& core : cores) {
    if (core.elapsed.count() > 0) {
      sum += static_cast<double>(core.ios) * 1e9 / static_cast<double>(core.elapsed.count());
    }
  }
  return sum;
}

const char* name_of(pattern rw) noexcept {
  constexpr std::array<const char*, 5> names{"randread", "randwrite", "read", "write", "randrw"};
  return names[static_cast<std::size_t>(rw)];
}

std::string to_json(const report& run) {
  const histogram latency = merged_latency(run);
  nlohmann::ordered_json out;
  out["address"] = run.device;
  out["rw"] = name_of(run.asked.rw);
  out["block_size"] = run.asked.io_bytes;
  out["depth"] = run.asked.depth;
  out["mode"] = run.asked.raw ? "raw" : "coroutine";
  out["ios"] = run.ios();
  out["iops"] = run.iops();
  out["bytes_per_second"] = run.iops() * run.asked.io_bytes;
  if (run.distinct_slots) {
    out["distinct_blocks"] = *run.distinct_slots;
  }
  out["errors"] = run.errors();
  out["verify_mismatches"] = total(run, &core_result::mismatches);
  out["mishap"] =
      run.mishap.empty() ? nlohmann::ordered_json(nullptr) : nlohmann::ordered_json(run.mishap);
  auto& ns = out["latency_ns"];
  ns["min"] = latency.min();
  ns["mean"] = latency.mean();
  for (const percentile& row : percentiles) {
    ns[row.key] = latency.quantile(row.fraction);
  }
  ns["max"] = latency.max();
  ns["resolution"] = resolution_of(run, latency);
  for (const core_result& core : run.cores) {
    nlohmann::ordered_json& here = out["cores"].emplace_back();
    here["core"] = core.core;
    here["ios"] = core.ios;
    here["off_core_share"] = off_core_share(core);
    here["memory_node"] = core.memory_node ? nlohmann::ordered_json(raw(*core.memory_node))
                                           : nlohmann::ordered_json(nullptr);
    out["cpu_cycles_per_io"].push_back({{"core", core.core}, {"cycles", cycles_per_io(core)}});
  }
  out["page_bytes"] = run.page_bytes;
  out["heap_allocations"] = total(run, &core_result::heap_allocations);
  return out.dump(2);
}

std::string to_text(const report& run) {
  const histogram latency = merged_latency(run);
  std::string out;
  auto to = std::back_inserter(out);
  fmt::format_to(to, "{}: {} of {} bytes, depth {}, {}\n", run.device, name_of(run.asked.rw),
                 run.asked.io_bytes, run.asked.depth, run.asked.raw ? "raw" : "coroutines");
  fmt::format_to(to, "  {:.0f} IOPS, {:.1f} MiB/s, {} errors, {} heap allocations\n", run.iops(),
                 run.iops() * run.asked.io_bytes / (1024.0 * 1024.0), run.errors(),
                 total(run, &core_result::heap_allocations));
  if (run.distinct_slots) {
    fmt::format_to(to, "  {} distinct places\n", *run.distinct_slots);
  }
  for (const core_result& core : run.cores) {
    fmt::format_to(to, "  core {}: {} I/Os, {:.0f} TSC cycles per I/O\n", core.core, core.ios,
                   cycles_per_io(core));
  }
  fmt::format_to(to, "  latency  {:>9} {:>9}", "min", "mean");
  for (const percentile& row : percentiles) {
    fmt::format_to(to, " {:>9}", row.label);
  }
  fmt::format_to(to, " {:>9}\n           {:>9} {:>9}", "max", readable(latency.min()),
                 readable(static_cast<std::uint64_t>(latency.mean())));
  for (const percentile& row : percentiles) {
    fmt::format_to(to, " {:>9}", readable(latency.quantile(row.fraction)));
  }
  fmt::format_to(to, " {:>9}\n", readable(latency.max()));
  if (latency.count() != 0) {
    draw_histogram(latency, out);
  }
  return out;
}

}  // namespace runnel::perf
