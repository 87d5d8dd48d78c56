// Judges two builds on this machine: is B slower than A, faster, or as fast? Both run the same work
// in turns; runs are compared by Mann and Whitney's test, never with a figure of another day.

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "bench/bench.h"
#include "bench/programs.h"
#include "bench/rounds.h"
#include "bench/samples.h"

namespace runnel::bench {
namespace {

// Both must be there: a difference that chance hardly makes, and one that is worth a word.
constexpr double chance_max = 0.01;
constexpr double difference_min = 0.015;

struct options : settings {
  std::array<std::string, 2> builds;
  std::string space = "null:256M";
  std::string rw = "randread";
  unsigned depth = 32;
};

/// One round: a run of each.
struct sample {
  std::array<double, 2> ns{};  // per I/O
  double ping_pong_cycles = 0;
  bool preempted = false;
};

/// A build folder's program, or a program.
std::string program_of(const std::string& build) {
  return std::filesystem::is_directory(build) ? build + "/apps/runnel" : build;
}

finished_run run(const options& asked, const std::string& runnel) {
  const running_target target{runnel, {"--poll", "busy", "--namespace", asked.space}};
  return run_perf(runnel, target,
                  {"--rw", asked.rw, "--depth", std::to_string(asked.depth), "--time",
                   fmt::format("{}", asked.seconds), "--warmup", "0.05"});
}

rounds_taken<sample> measure(const options& asked) {
  const auto cores = two_cores();
  std::size_t first = 0;
  return take_rounds(asked.rounds, [&] {
    sample now{.ping_pong_cycles = ping_pong_cycles(cores)};
    for (const std::size_t which : {first, 1 - first}) {
      const finished_run perf = run(asked, program_of(asked.builds[which]));
      now.ns[which] = 1e9 / perf.output["iops"].get<double>();
      now.preempted |= perf.preempted();
    }
    first = 1 - first;
    return now;
  });
}

row judge(const options& asked, const rounds_taken<sample>& taken) {
  const auto of_a = column(taken.samples, [](const sample& one) { return one.ns[0]; });
  const auto of_b = column(taken.samples, [](const sample& one) { return one.ns[1]; });
  const double ratio = median_of(of_b) / median_of(of_a);
  const double p = mann_whitney_p(of_a, of_b);
  const bool differs = p <= chance_max && std::max(ratio, 1 / ratio) >= 1 + difference_min;
  const char* const verdict = !differs ? "equal" : ratio > 1 ? "slower" : "faster";
  row out{.name = fmt::format("B is {}", verdict),
          .unit = "ns",
          .figure = median_of(of_b),
          .spread = spread_of(of_b),
          .against = "A",
          .peer = median_of(of_a),
          .ratio = ratio,
          .ping_pong_cycles = median_of(
              column(taken.samples, [](const sample& one) { return one.ping_pong_cycles; })),
          .discarded = taken.discarded,
          .owed = "not slower",
          .holds = !differs || ratio < 1,
          .why_void = taken.why_void};
  out.more = {{"verdict", verdict}, {"p", p}, {"A", asked.builds[0]}, {"B", asked.builds[1]}};
  return out;
}

}  // namespace
}  // namespace runnel::bench

int main(int argc, char** argv) {
  using namespace runnel::bench;
  options asked;
  asked.rounds = 15;
  asked.seconds = 0.2;
  CLI::App program{"two builds over vfio-user, 4 KiB"};
  program.add_option("A", asked.builds[0], "a build folder or its runnel")->required();
  program.add_option("B", asked.builds[1], "what is judged")->required();
  program.add_option("--namespace", asked.space, "what is served")->capture_default_str();
  program.add_option("--rw", asked.rw, "as of perf")->capture_default_str();
  program.add_option("--depth", asked.depth, "as of perf")->capture_default_str();
  return run_bench(program, asked, {argc, argv},
                   [&asked](const row_sink& add) { add(judge(asked, measure(asked))); });
}
