// Claim: at 80 % of the rate of the closed loop, one I/O of a thousand over vfio-user takes at most
// ten times as long as the median, counted from when it should have started, and the median is no
// longer than in the closed loop. Beside it stands what the stalls of the two cores alone would
// make of a server without a tail.

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "bench/bench.h"
#include "bench/need.h"
#include "bench/programs.h"
#include "bench/rounds.h"
#include "bench/samples.h"
#include "bench/stalls.h"

namespace runnel::bench {
namespace {

constexpr double load = 0.8;
constexpr double of_p50_max = 10;
constexpr unsigned depths[] = {1, 32, 128};

struct options : settings {
  std::string runnel = {};
};

struct sample {
  line_of_round line;
  double stalls_us = 0;  // p99.9 that they alone make
  double p50_us = 0;
  double p999_us = 0;
  double closed_p50_us = 0;
  bool preempted = false;
};

double stalls_us(const std::pair<unsigned, unsigned>& cores, double seconds) {
  const auto stood = measure_stalls(cores, seconds);
  if (!stood) {
    give_up(stood.error());
  }
  return stood->p999_us(load);
}

finished_run run(const options& asked, const running_target& target, unsigned depth,
                 const std::vector<std::string>& more) {
  std::vector<std::string> words{"--depth",  std::to_string(depth),
                                 "--time",   fmt::format("{}", asked.seconds),
                                 "--warmup", "0.1"};
  words.insert(words.end(), more.begin(), more.end());
  return run_perf(asked.runnel, target, words);
}

rounds_taken<sample> measure(const options& asked, unsigned depth,
                             const std::pair<unsigned, unsigned>& cores) {
  const running_target target{asked.runnel, {"--poll", "busy", "--namespace", "null:256M"}};
  return take_rounds(asked.rounds, [&] {
    target.program().halt();  // it would poll on a core that is looked at
    sample now{.line = {.before = ping_pong_cycles(cores)},
               .stalls_us = stalls_us(cores, asked.seconds / 2)};
    target.program().go_on();
    const finished_run closed = run(asked, target, depth, {});
    const double rate = load * closed.output["iops"].get<double>();
    const finished_run open =
        run(asked, target, depth, {"--rate", std::to_string(static_cast<std::uint64_t>(rate))});
    const auto& ns = open.output["latency_ns"];
    now.p50_us = ns["p50"].get<double>() / 1e3;
    now.p999_us = ns["p99_9"].get<double>() / 1e3;
    now.closed_p50_us = closed.output["latency_ns"]["p50"].get<double>() / 1e3;
    now.preempted = closed.preempted() || open.preempted();
    target.program().halt();
    now.line.after = ping_pong_cycles(cores);
    return now;
  });
}

row judge(unsigned depth, const rounds_taken<sample>& taken) {
  const auto values = [&taken](auto field) { return column(taken.samples, field); };
  const auto p999_us = values([](const sample& one) { return one.p999_us; });
  const double of_p50 =
      median_of(values([](const sample& one) { return one.p999_us / one.p50_us; }));
  const double p50_us = median_of(values([](const sample& one) { return one.p50_us; }));
  const double closed_p50_us =
      median_of(values([](const sample& one) { return one.closed_p50_us; }));
  row out{.name = fmt::format("p99.9 at 80 % load, depth {}", depth),
          .unit = "us",
          .figure = median_of(p999_us),
          .spread = spread_of(p999_us),
          .against = "stalls of the cores",
          .peer = median_of(values([](const sample& one) { return one.stalls_us; })),
          .above = median_of(values([](const sample& one) { return one.p999_us - one.stalls_us; })),
          .ping_pong_cycles = median_of(values([](const sample& one) { return one.line.before; })),
          .discarded = taken.discarded,
          .owed = fmt::format("<= {}x p50", of_p50_max),
          .why_void = taken.why_void};
  // Under overload everything waits, and nothing longer than the median: that is no tail.
  out.holds = at_most(of_p50, of_p50_max) && at_most(p50_us, closed_p50_us);
  out.more = {{"of_p50", of_p50}, {"p50_us", p50_us}, {"closed_loop_p50_us", closed_p50_us}};
  return out;
}

}  // namespace
}  // namespace runnel::bench

int main(int argc, char** argv) {
  using namespace runnel::bench;
  options asked;
  return run_bench(
      {.title = "tail of an open loop over vfio-user",
       .declare =
           [&asked](CLI::App& program) {
             program.add_option("--runnel", asked.runnel, "the binary to measure")->required();
           },
       .measure =
           [&asked](const row_sink& add) {
             const auto cores = two_cores();
             for (const unsigned depth : depths) {
               add(judge(depth, measure(asked, depth, cores)));
             }
           }},
      asked, {argc, argv});
}
