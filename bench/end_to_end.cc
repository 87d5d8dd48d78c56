// Claim: a coroutine's I/O through the NVMe driver, shared memory and our NVMe controller in
// another process costs little more than the bare echo between the same two cores. Every figure is
// taken with the cache-line ping-pong and the bare echo of the same seconds, in interleaved rounds;
// what is judged is the median over the rounds.

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include <string>
#include <string_view>
#include <utility>

#include "apps/floor/floor.h"
#include "bench/bench.h"
#include "bench/cold_copy.h"
#include "bench/need.h"
#include "bench/programs.h"
#include "bench/rounds.h"
#include "bench/samples.h"

namespace runnel::bench {
namespace {

struct options : settings {
  std::string runnel = {};
};

/// What a row owes. Times are on top of the floor of the same round: the bare echo and, for memory,
/// the copy of a cold block.
struct claim {
  const char* name;
  const char* space;  // address of the namespace that is served
  const char* rw;
  unsigned depth;
  double above_floor_ns_max;  // 0: not owed in this form
  double million_iops_min;    // 0: not owed in this form

  [[nodiscard]] bool is_memory() const noexcept {
    return std::string_view{space}.starts_with("ram:");
  }
  [[nodiscard]] cold_copy copy() const noexcept {
    const bool writes = std::string_view{rw} == "randwrite";
    return {.which = writes ? direction::into_memory : direction::out_of_memory,
            .with = depth == 1 ? company::alone : company::in_a_row};
  }
};

constexpr claim claims[] = {
    {"null, random read, depth 1", "null:256M", "randread", 1, 40, 0},
    {"null, random read, depth 32", "null:256M", "randread", 32, 30, 0},
    {"null, random read, depth 128", "null:256M", "randread", 128, 25, 0},
    {"memory, random read, depth 1", "ram:256M", "randread", 1, 60, 0},
    {"memory, random read, depth 128", "ram:256M", "randread", 128, 0, 3.2},
    {"memory, random write, depth 128", "ram:256M", "randwrite", 128, 0, 4.8},
};

struct sample {
  double ping_pong_cycles = 0;
  double echo_ns = 0;
  double copy_ns = 0;  // 0: nothing is copied
  double ns = 0;
  double cycles = 0;  // of perf's core
  bool preempted = false;

  [[nodiscard]] double floor_ns() const noexcept { return echo_ns + copy_ns; }
};

double copy_of(const claim& row, unsigned core) {
  const auto ns = cold_copy_ns(core, row.copy());
  if (!ns) {
    give_up(ns.error());
  }
  return *ns;
}

sample measure_floor(const options& asked, const claim& row,
                     const std::pair<unsigned, unsigned>& cores) {
  const auto echo = floor::bare_echo(cores.first, cores.second, row.depth, asked.seconds / 4);
  if (!echo) {
    give_up(echo.error());
  }
  return {.ping_pong_cycles = ping_pong_cycles(cores),
          .echo_ns = echo->ns_per_io,
          .copy_ns = row.is_memory() ? copy_of(row, cores.second) : 0};
}

rounds_taken<sample> measure(const options& asked, const claim& row,
                             const std::pair<unsigned, unsigned>& cores) {
  const running_target target{asked.runnel, {"--poll", "busy", "--namespace", row.space}};
  if (row.is_memory()) {  // touch every page before reading
    (void)run_perf(asked.runnel, target,
                   {"--rw", "write", "--block-size", "128k", "--depth", "32", "--time", "0.25",
                    "--warmup", "0"});
  }
  return take_rounds(asked.rounds, [&] {
    target.program().halt();  // it would poll on a core that the floor needs
    sample now = measure_floor(asked, row, cores);
    target.program().go_on();
    const finished_run perf =
        run_perf(asked.runnel, target,
                 {"--rw", row.rw, "--depth", std::to_string(row.depth), "--time",
                  fmt::format("{}", asked.seconds), "--warmup", "0.1"});
    now.ns = 1e9 / perf.output["iops"].get<double>();
    now.cycles = perf.output["cpu_cycles_per_io"][0]["cycles"].get<double>();
    now.preempted = perf.preempted();
    return now;
  });
}

row judge(const claim& owed, const rounds_taken<sample>& taken) {
  const auto median = [&taken](auto field) { return median_of(column(taken.samples, field)); };
  const auto above = median([](const sample& one) { return one.ns - one.floor_ns(); });
  const auto ns = median([](const sample& one) { return one.ns; });
  row out{.name = owed.name,
          .unit = "ns",
          .figure = ns,
          .spread = spread_of(column(taken.samples, [](const sample& one) { return one.ns; })),
          .against = owed.is_memory() ? "echo + cold copy" : "bare echo",
          .peer = median([](const sample& one) { return one.floor_ns(); }),
          .above = above,
          .ping_pong_cycles = median([](const sample& one) { return one.ping_pong_cycles; }),
          .discarded = taken.discarded,
          .why_void = taken.why_void};
  if (owed.above_floor_ns_max > 0) {
    out.owed = fmt::format("floor + {} ns", owed.above_floor_ns_max);
    out.holds = at_most(above, owed.above_floor_ns_max);
  } else {
    out.owed = fmt::format(">= {} M IOPS", owed.million_iops_min);
    out.holds = at_least(1e3 / ns, owed.million_iops_min);
  }
  out.more["million_iops"] = 1e3 / ns;
  out.more["copy_ns"] = median([](const sample& one) { return one.copy_ns; });
  out.more["cycles_per_io"] = median([](const sample& one) { return one.cycles; });
  return out;
}

}  // namespace
}  // namespace runnel::bench

int main(int argc, char** argv) {
  using namespace runnel::bench;
  options asked;
  CLI::App program{"end to end over vfio-user, 4 KiB"};
  program.add_option("--runnel", asked.runnel, "the binary to measure")->required();
  return run_bench(program, asked, {argc, argv}, [&asked](const row_sink& add) {
    const auto cores = two_cores();
    for (const claim& owed : claims) {
      add(judge(owed, measure(asked, owed, cores)));
    }
  });
}
