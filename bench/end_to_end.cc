// Claim: a coroutine's I/O through the NVMe driver, shared memory and our NVMe controller in
// another process costs little more than the bare echo between the same two cores, and never more
// than SPDK's. Every figure is taken with the cache-line ping-pong and the bare echo of the same
// seconds, in interleaved rounds; what is judged is the median over the rounds.

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include <cmath>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "apps/floor/floor.h"
#include "bench/bench.h"
#include "bench/cold_copy.h"
#include "bench/need.h"
#include "bench/programs.h"
#include "bench/rounds.h"
#include "bench/samples.h"
#include "mempool/base/units.h"

namespace runnel::bench {
namespace {

struct options : settings {
  std::string runnel = {};
};

/// SPDK 26.09-pre at the same work, ns per I/O, measured where cores are near and where they are
/// far on a machine of this class; 0: not measured. It is not packaged, so it cannot run beside us.
struct spdk_figures {
  double near_ns = 0;
  double far_ns = 0;
  double owed_ratio_max = 1;
};

/// What a row owes. Times are on top of the floor of the same round: the bare echo and, for memory,
/// the copy of a cold block.
struct claim {
  const char* name;
  const char* space;  // address of the namespace that is served
  const char* rw;
  unsigned depth;
  double above_floor_ns_max = 0;  // 0: not owed in this form
  double million_iops_min = 0;    // 0: not owed in this form
  spdk_figures spdk = {};
  const char* manner = nullptr;  // one more word for perf

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
    {.name = "null, random read, depth 1",
     .space = "null:256M",
     .rw = "randread",
     .depth = 1,
     .above_floor_ns_max = 40,
     .spdk = {.near_ns = 580, .far_ns = 830}},
    {.name = "null, random read, depth 1, raw",
     .space = "null:256M",
     .rw = "randread",
     .depth = 1,
     .manner = "--raw"},
    {.name = "null, random read, depth 32",
     .space = "null:256M",
     .rw = "randread",
     .depth = 32,
     .above_floor_ns_max = 30,
     .spdk = {.near_ns = 123, .far_ns = 123}},  // its placement is not known
    {.name = "null, random read, depth 128",
     .space = "null:256M",
     .rw = "randread",
     .depth = 128,
     .above_floor_ns_max = 25,
     .spdk = {.near_ns = 86, .far_ns = 109, .owed_ratio_max = 0.5}},
    {.name = "null, random read, depth 128, raw",
     .space = "null:256M",
     .rw = "randread",
     .depth = 128,
     .manner = "--raw"},
    {.name = "memory, random read, depth 1",
     .space = "ram:256M",
     .rw = "randread",
     .depth = 1,
     .above_floor_ns_max = 60,
     .spdk = {.near_ns = 1000, .far_ns = 1100}},
    {.name = "memory, random read, depth 128",
     .space = "ram:256M",
     .rw = "randread",
     .depth = 128,
     .million_iops_min = 3.2,
     .spdk = {.near_ns = 500, .far_ns = 588}},
    {.name = "memory, random read, depth 128, touched",
     .space = "ram:256M",
     .rw = "randread",
     .depth = 128,
     .manner = "--touch"},
    {.name = "memory, random write, depth 128",
     .space = "ram:256M",
     .rw = "randwrite",
     .depth = 128,
     .million_iops_min = 4.8,
     .spdk = {.near_ns = 312, .far_ns = 333}},
};

struct sample {
  line_of_round line;
  double echo_ns = 0;
  double copy_ns = 0;  // 0: nothing is copied
  double ns = 0;
  double cycles = 0;           // of perf's core
  double distinct_blocks = 0;  // that were read or written
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
  return {.line = {.before = ping_pong_cycles(cores)},
          .echo_ns = echo->ns_per_io,
          .copy_ns = row.is_memory() ? copy_of(row, cores.second) : 0};
}

std::vector<std::string> words_for(const claim& row, double seconds, const char* warmup) {
  std::vector<std::string> words{"--rw",     row.rw,
                                 "--depth",  std::to_string(row.depth),
                                 "--time",   fmt::format("{}", seconds),
                                 "--warmup", warmup};
  if (row.manner != nullptr) {
    words.emplace_back(row.manner);
  }
  return words;
}

/// Memory is written in full with random bytes, and every read must deliver them.
/// @return why the row says nothing, if so
std::string write_and_verify(const options& asked, running_target& target) {
  const finished_run perf = run_perf(asked.runnel, target,
                                     {"--verify", "--rw", "randread", "--depth", "128", "--time",
                                      fmt::format("{}", asked.seconds / 4), "--warmup", "0"});
  (void)target.served_reads_and_writes();
  return perf.output["errors"].get<std::uint64_t>() == 0 ? "" : "reads were wrong";
}

/// The target's own count must agree with perf's, and both must have huge pages.
/// @return why the row says nothing, if so
std::string check_counts(const options& asked, const claim& row, running_target& target) {
  const finished_run perf = run_perf(asked.runnel, target, words_for(row, asked.seconds / 4, "0"));
  const double theirs = static_cast<double>(target.served_reads_and_writes());
  const double ours = perf.output["ios"].get<double>();
  if (std::abs(theirs - ours) > 0.01 * ours + row.depth) {
    return fmt::format("the target counted {:.0f} of {:.0f} I/Os", theirs, ours);
  }
  return perf.output["page_bytes"].get<std::uint64_t>() < 2 * mib ? "no huge pages" : "";
}

rounds_taken<sample> measure(const options& asked, const claim& row,
                             const std::pair<unsigned, unsigned>& cores) {
  running_target target{asked.runnel, {"--poll", "busy", "--namespace", row.space}};
  std::string why_void = row.is_memory() ? write_and_verify(asked, target) : "";
  if (why_void.empty()) {
    why_void = check_counts(asked, row, target);
  }
  auto taken = take_rounds(asked.rounds, [&] {
    target.program().halt();  // it would poll on a core that the floor needs
    sample now = measure_floor(asked, row, cores);
    target.program().go_on();
    const finished_run perf = run_perf(asked.runnel, target, words_for(row, asked.seconds, "0.1"));
    target.program().halt();
    now.line.after = ping_pong_cycles(cores);
    now.ns = 1e9 / perf.output["iops"].get<double>();
    now.cycles = perf.output["cpu_cycles_per_io"][0]["cycles"].get<double>();
    now.distinct_blocks = perf.output["distinct_blocks"].get<double>();
    now.preempted = perf.preempted();
    return now;
  });
  taken.why_void = why_void.empty() ? taken.why_void : why_void;
  return taken;
}

double median_line(const rounds_taken<sample>& taken) {
  return median_of(column(taken.samples, [](const sample& one) { return one.line.before; }));
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
          .ping_pong_cycles = median_line(taken),
          .discarded = taken.discarded,
          .why_void = taken.why_void};
  if (owed.above_floor_ns_max > 0) {
    out.owed = fmt::format("floor + {} ns", owed.above_floor_ns_max);
    out.holds = at_most(above, owed.above_floor_ns_max);
  } else if (owed.million_iops_min > 0) {
    out.owed = fmt::format(">= {} M IOPS", owed.million_iops_min);
    out.holds = at_least(1e3 / ns, owed.million_iops_min);
  }
  out.more["million_iops"] = 1e3 / ns;
  out.more["copy_ns"] = median([](const sample& one) { return one.copy_ns; });
  out.more["cycles_per_io"] = median([](const sample& one) { return one.cycles; });
  out.more["distinct_blocks"] = median([](const sample& one) { return one.distinct_blocks; });
  return out;
}

/// The same figure beside SPDK's of the same placement, if that is known.
std::optional<row> judge_beside_spdk(const claim& owed, const rounds_taken<sample>& taken) {
  const bool near = floor::placement_of(median_line(taken)) == floor::placement::near;
  const double known = near ? owed.spdk.near_ns : owed.spdk.far_ns;
  if (known == 0) {
    return std::nullopt;
  }
  const auto ns = median_of(column(taken.samples, [](const sample& one) { return one.ns; }));
  return row{.name = owed.name,
             .unit = "ns",
             .figure = ns,
             .against = fmt::format("SPDK, known, {}", near ? "near" : "far"),
             .peer = known,
             .ratio = ns / known,
             .ping_pong_cycles = median_line(taken),
             .owed = fmt::format("<= {:.1f}x", owed.spdk.owed_ratio_max),
             .holds = at_most(ns / known, owed.spdk.owed_ratio_max),
             .why_void = taken.why_void};
}

void judge_all(const options& asked, const row_sink& add) {
  const auto cores = two_cores();
  for (const claim& owed : claims) {
    const auto taken = measure(asked, owed, cores);
    add(judge(owed, taken));
    if (const auto beside = judge_beside_spdk(owed, taken)) {
      add(*beside);
    }
  }
}

}  // namespace
}  // namespace runnel::bench

int main(int argc, char** argv) {
  using namespace runnel::bench;
  options asked;
  return run_bench(
      {.title = "end to end over vfio-user, 4 KiB",
       .declare =
           [&asked](CLI::App& program) {
             program.add_option("--runnel", asked.runnel, "the binary to measure")->required();
           },
       .measure = [&asked](const row_sink& add) { judge_all(asked, add); }},
      asked, {argc, argv});
}
