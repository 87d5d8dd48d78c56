// Judges two builds on this machine: is B slower than A, faster, or as fast? Both run the same work
// in turns, and only neighbours are compared: the machine changes from one minute to the next.

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <cstddef>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "bench/bench.h"
#include "bench/judgement.h"
#include "bench/programs.h"
#include "bench/samples.h"

namespace runnel::bench {
namespace {

struct options : settings {
  std::array<std::string, 2> builds;
  std::string space = "null:256M";
  std::string rw = "randread";
  unsigned depth = 128;
};

/// A pair: a run of each, one after the other.
struct sample {
  std::array<double, 2> ns{};  // per I/O
  double ping_pong_cycles = 0;
};

/// A copy for one run. Where the pages of a file lie is worth some percent, and stays so for long:
/// the same program under two names would be two builds.
class fresh_copy {
 public:
  explicit fresh_copy(const std::string& program)
      : path_{fmt::format("/tmp/runnel-compare-{}", getpid())} {
    std::filesystem::copy_file(program, path_);
  }
  fresh_copy(const fresh_copy&) = delete;
  fresh_copy& operator=(const fresh_copy&) = delete;
  ~fresh_copy() { ::unlink(path_.c_str()); }

  [[nodiscard]] const std::string& path() const noexcept { return path_; }

 private:
  std::string path_;
};

/// A build folder's program, or a program.
std::string program_of(const std::string& build) {
  return std::filesystem::is_directory(build) ? build + "/apps/runnel" : build;
}

/// @return ns per I/O
double run(const options& asked, const std::string& build) {
  const fresh_copy runnel{program_of(build)};
  const running_target target{runnel.path(), {"--poll", "busy", "--namespace", asked.space}};
  const finished_run perf =
      run_perf(runnel.path(), target,
               {"--rw", asked.rw, "--depth", std::to_string(asked.depth), "--time",
                fmt::format("{}", asked.seconds), "--warmup", "0.05"});
  return 1e9 / perf.output["iops"].get<double>();
}

/// Runs that were preempted stay: there are few without on a machine that works, and those which
/// matter make wild ratios.
std::vector<sample> measure(const options& asked) {
  const auto cores = two_cores();
  std::vector<sample> taken(asked.rounds);
  std::size_t first = 0;
  for (sample& now : taken) {
    now.ping_pong_cycles = ping_pong_cycles(cores);
    for (const std::size_t which : {first, 1 - first}) {
      now.ns[which] = run(asked, asked.builds[which]);
    }
    first = 1 - first;
  }
  return taken;
}

row judge(const options& asked, const std::vector<sample>& taken) {
  const auto values = [&taken](auto field) { return column(taken, field); };
  const auto ratios = values([](const sample& one) { return one.ns[1] / one.ns[0]; });
  const auto of_b = values([](const sample& one) { return one.ns[1]; });
  const judgement found = judge_pairs(ratios);
  row out{
      .name = fmt::format("B is {}", found.verdict),
      .unit = "ns",
      .figure = median_of(of_b),
      .spread = spread_of(of_b),
      .against = "A",
      .peer = median_of(values([](const sample& one) { return one.ns[0]; })),
      .ratio = found.ratio,
      .ping_pong_cycles = median_of(values([](const sample& one) { return one.ping_pong_cycles; })),
      .discarded = found.wild,
      .owed = "not slower",
      .holds = found.verdict != std::string_view{"slower"}};
  out.more = {{"verdict", found.verdict},
              {"p", found.p},
              {"A", asked.builds[0]},
              {"B", asked.builds[1]},
              {"ratios", ratios}};
  return out;
}

}  // namespace
}  // namespace runnel::bench

int main(int argc, char** argv) {
  using namespace runnel::bench;
  options asked;
  asked.rounds = 121;
  asked.seconds = 0.1;
  return run_bench(
      {.title = "two builds over vfio-user, 4 KiB",
       .declare =
           [&asked](CLI::App& program) {
             program.add_option("A", asked.builds[0], "a build folder or its runnel")->required();
             program.add_option("B", asked.builds[1], "what is judged")->required();
             program.add_option("--namespace", asked.space, "what is served")
                 ->capture_default_str();
             program.add_option("--rw", asked.rw, "as of perf")->capture_default_str();
             program.add_option("--depth", asked.depth, "as of perf")->capture_default_str();
           },
       .measure = [&asked](const row_sink& add) { add(judge(asked, measure(asked))); }},
      asked, {argc, argv});
}
