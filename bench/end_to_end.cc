// Claim: a coroutine's I/O through the NVMe driver, shared memory and our NVMe controller in
// another process costs little more than the bare echo between the same two cores. Every figure is
// taken with the cache-line ping-pong and the bare echo of the same seconds, in interleaved rounds;
// what is judged is the median over the rounds.

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstdio>
#include <exception>
#include <fstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "apps/floor/floor.h"
#include "bench/cold_copy.h"
#include "bench/need.h"
#include "bench/programs.h"
#include "bench/samples.h"
#include "runtime/cores.h"

namespace runnel::bench {
namespace {

using nlohmann::ordered_json;

struct settings {
  std::string runnel;
  std::string json_file;
  unsigned rounds = 7;
  double seconds = 0.5;
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
  [[nodiscard]] direction copies() const noexcept {
    return std::string_view{rw} == "randwrite" ? direction::into_memory : direction::out_of_memory;
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
  double iops = 0;
  double cycles_per_io = 0;
};

template <class Field>
std::vector<double> column(const std::vector<sample>& samples, Field field) {
  std::vector<double> values(samples.size());
  std::ranges::transform(samples, values.begin(), field);
  return values;
}

double copy_of(const claim& row, unsigned core) {
  const auto ns = cold_copy_ns(core, row.copies());
  if (!ns) {
    give_up(ns.error());
  }
  return *ns;
}

sample measure_floor(const settings& asked, const claim& row,
                     const std::pair<unsigned, unsigned>& cores) {
  const auto line = floor::ping_pong(cores.first, cores.second);
  const auto echo = floor::bare_echo(cores.first, cores.second, row.depth, asked.seconds / 4);
  if (!line || !echo) {
    give_up(line ? echo.error() : line.error());
  }
  return {.ping_pong_cycles = line->cycles,
          .echo_ns = echo->ns_per_io,
          .copy_ns = row.is_memory() ? copy_of(row, cores.second) : 0};
}

std::vector<sample> measure(const settings& asked, const claim& row,
                            const std::pair<unsigned, unsigned>& cores) {
  const running_target target{asked.runnel, {"--poll", "busy", "--namespace", row.space}};
  if (row.is_memory()) {  // touch every page before reading
    run_perf(
        asked.runnel, target,
        {"--rw", "write", "--block-size", "128k", "--depth", "32", "--time", "1", "--warmup", "0"});
  }
  std::vector<sample> samples;
  for (unsigned round = 0; round < asked.rounds; ++round) {
    target.program().halt();  // it would poll on a core that the floor needs
    sample now = measure_floor(asked, row, cores);
    target.program().go_on();
    const ordered_json perf =
        run_perf(asked.runnel, target,
                 {"--rw", row.rw, "--depth", std::to_string(row.depth), "--time",
                  fmt::format("{}", asked.seconds), "--warmup", "0.1"});
    now.iops = perf["iops"].get<double>();
    now.cycles_per_io = perf["cpu_cycles_per_io"][0]["cycles"].get<double>();
    samples.push_back(now);
  }
  return samples;
}

/// The row's verdict: the owed bound with the 2 % that noise is granted.
ordered_json judge(const claim& row, const std::vector<sample>& samples) {
  const auto ns = column(samples, [](const sample& one) { return 1e9 / one.iops; });
  const auto above =
      column(samples, [](const sample& one) { return 1e9 / one.iops - one.echo_ns - one.copy_ns; });
  const double million_iops = 1e3 / median_of(ns);
  ordered_json out;
  out["row"] = row.name;
  out["ping_pong_cycles"] =
      median_of(column(samples, [](const sample& one) { return one.ping_pong_cycles; }));
  out["echo_ns"] = median_of(column(samples, [](const sample& one) { return one.echo_ns; }));
  out["copy_ns"] = median_of(column(samples, [](const sample& one) { return one.copy_ns; }));
  out["ns_per_io"] = median_of(ns);
  out["spread_ns"] = spread_of(ns);
  out["above_floor_ns"] = median_of(above);
  out["of_floor"] = median_of(column(
      samples, [](const sample& one) { return 1e9 / one.iops / (one.echo_ns + one.copy_ns); }));
  out["million_iops"] = million_iops;
  out["cycles_per_io"] =
      median_of(column(samples, [](const sample& one) { return one.cycles_per_io; }));
  if (row.above_floor_ns_max > 0) {
    out["owed"] = fmt::format("floor + {} ns", row.above_floor_ns_max);
    out["holds"] = median_of(above) <= row.above_floor_ns_max * 1.02;
  } else {
    out["owed"] = fmt::format(">= {} M IOPS", row.million_iops_min);
    out["holds"] = million_iops >= row.million_iops_min * 0.98;
  }
  return out;
}

void print_row(const ordered_json& row) {
  const auto number = [&row](const char* key) { return row[key].get<double>(); };
  fmt::print(
      "{:<32} {:>7.0f} {:>7.1f} {:>7.1f} {:>7.1f} {:>5.1f} {:>7.1f} {:>8.2f} {:>7.2f}  "
      "{:<14} {}\n",
      row["row"].get<std::string>(), number("ping_pong_cycles"), number("echo_ns"),
      number("copy_ns"), number("ns_per_io"), number("spread_ns"), number("above_floor_ns"),
      number("of_floor"), number("million_iops"), row["owed"].get<std::string>(),
      row["holds"].get<bool>() ? "holds" : "SHORT");
  std::fflush(stdout);
}

int run(int argc, char** argv) {
  settings asked;
  CLI::App program{"End to end over vfio-user against the bare echo"};
  program.add_option("--runnel", asked.runnel, "the binary to measure")->required();
  program.add_option("--json", asked.json_file, "also write the rows there");
  program.add_option("--rounds", asked.rounds, "interleaved rounds per row")->capture_default_str();
  program.add_option("--time", asked.seconds, "seconds per run")->capture_default_str();
  CLI11_PARSE(program, argc, argv);

  const auto cores = allowed_cores();
  if (!cores || cores->size() < 2) {
    fmt::print(stderr, "end_to_end: two cores are needed\n");
    return 1;
  }
  ordered_json rows = ordered_json::array();
  fmt::print("{:<32} {:>7} {:>7} {:>7} {:>7} {:>5} {:>7} {:>8} {:>7}  {:<14} verdict\n",
             "vfio-user, 4 KiB", "line cy", "echo ns", "copy ns", "ns/I-O", "+-", "above",
             "of floor", "M IOPS", "owed");
  for (const claim& row : claims) {
    rows.push_back(judge(row, measure(asked, row, {raw(cores->back()), raw(cores->front())})));
    print_row(rows.back());
  }
  if (!asked.json_file.empty()) {
    std::ofstream{asked.json_file} << rows.dump(2) << '\n';
  }
  return 0;
}

}  // namespace
}  // namespace runnel::bench

int main(int argc, char** argv) {
  try {
    return runnel::bench::run(argc, argv);
  } catch (const std::exception& problem) {  // libraries: JSON, out of memory
    fmt::print(stderr, "end_to_end: {}\n", problem.what());
    return 1;
  }
}
