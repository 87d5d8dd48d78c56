// Claim: a target and a client that sleep when idle cost less than 1 % of a core each from 100 ms
// after a burst on, their first I/O after a silence is done within about 200 us, and under load
// they are as fast as when they never sleep. Throughput is taken in interleaved rounds beside busy
// polling; the first I/Os beside two bare processes that wake one another.

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <poll.h>
#include <sys/types.h>

#include <array>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "bench/bench.h"
#include "bench/need.h"
#include "bench/programs.h"
#include "bench/rounds.h"
#include "bench/samples.h"
#include "bench/sleeping_echo.h"
#include "mempool/base/clock.h"

namespace runnel::bench {
namespace {

using std::chrono::milliseconds;
using steady = std::chrono::steady_clock;

constexpr double percent_max = 1;  // of a core
constexpr double first_io_us_max = 200;

constexpr milliseconds after_burst{100};
constexpr milliseconds share_window{1000};
// The target looks at its client every 50 ms: a multiple of that would find it half awake.
constexpr unsigned first_ios_per_second = 9;
constexpr milliseconds silence{1000 / first_ios_per_second};

struct options : settings {
  std::string runnel = {};
  unsigned first_ios = 100;
};

/// How both programs spend turns that find nothing.
struct pairing {
  const char* name;
  const char* target;
  const char* perf;
};
constexpr std::array<pairing, 3> pairings{{
    {"both busy", "busy", "busy"},  // what the others are judged against
    {"target adaptive", "adaptive", "busy"},
    {"both adaptive", "adaptive", "adaptive"},
}};
constexpr std::array<unsigned, 3> depths{1, 32, 128};

/// One round.
struct rates {
  std::array<double, pairings.size()> million_iops{};
  line_of_round line;
  bool preempted = false;
};

rounds_taken<rates> measure_rates(const options& asked, unsigned depth) {
  const auto cores = two_cores();
  std::size_t first = 0;  // each is first in its turn
  return take_rounds(asked.rounds, [&] {
    rates now{.line = {.before = ping_pong_cycles(cores)}};
    for (std::size_t i = 0; i < pairings.size(); ++i) {
      const std::size_t which = (first + i) % pairings.size();
      const running_target target{asked.runnel,
                                  {"--poll", pairings[which].target, "--namespace", "null:1G"}};
      const finished_run perf = run_perf(
          asked.runnel, target,
          {"--poll", pairings[which].perf, "--rw", "randread", "--depth", std::to_string(depth),
           "--time", fmt::format("{}", asked.seconds), "--warmup", "0.1"});
      now.million_iops[which] = perf.output["iops"].get<double>() / 1e6;
      now.preempted |= perf.preempted();
    }
    ++first;
    now.line.after = ping_pong_cycles(cores);
    return now;
  });
}

row judge_rate(const rounds_taken<rates>& taken, unsigned depth, std::size_t which) {
  const auto values = [&taken](auto field) { return column(taken.samples, field); };
  const auto million_iops = values([which](const rates& one) { return one.million_iops[which]; });
  const double of_busy = median_of(
      values([which](const rates& one) { return one.million_iops[which] / one.million_iops[0]; }));
  return {.name = fmt::format("{}, depth {}", pairings[which].name, depth),
          .unit = "M IOPS",
          .figure = median_of(million_iops),
          .spread = spread_of(million_iops),
          .against = pairings[0].name,
          .peer = median_of(values([](const rates& one) { return one.million_iops[0]; })),
          .ratio = of_busy,
          .ping_pong_cycles = median_of(values([](const rates& one) { return one.line.before; })),
          .discarded = taken.discarded,
          .owed = "as fast",
          .holds = at_least(of_busy, 1),
          .why_void = taken.why_void};
}

void compare_rates(const options& asked, const row_sink& add) {
  for (const unsigned depth : depths) {
    const auto taken = measure_rates(asked, depth);
    for (std::size_t which = 1; which < pairings.size(); ++which) {
      add(judge_rate(taken, depth, which));
    }
  }
}

/// Of all threads, exact to the nanosecond where `stat` counts ticks. 0 when the program is gone.
nanoseconds cpu_time_of(pid_t program) {
  nanoseconds spent{0};
  std::error_code gone;
  const auto threads = fmt::format("/proc/{}/task", program);
  for (const auto& thread : std::filesystem::directory_iterator{threads, gone}) {
    std::int64_t ns = 0;
    std::ifstream{thread.path() / "schedstat"} >> ns;
    spent += nanoseconds{ns};
  }
  return spent;
}

void let_pass(milliseconds time) {
  ::poll(nullptr, 0, static_cast<int>(time.count()));
}

/// What each program used of a core in the coming `window`.
std::vector<double> shares_over(milliseconds window, const std::vector<pid_t>& programs) {
  std::vector<double> shares;
  shares.reserve(programs.size());
  const auto start = steady::now();
  for (const pid_t program : programs) {
    shares.push_back(-static_cast<double>(cpu_time_of(program).count()));
  }
  let_pass(window);
  const std::chrono::duration<double, std::nano> passed = steady::now() - start;
  for (std::size_t i = 0; i < programs.size(); ++i) {
    shares[i] += static_cast<double>(cpu_time_of(programs[i]).count());
    shares[i] /= passed.count();
  }
  return shares;
}

/// Returns when the program, which was idle, has worked and then been idle for `after_burst`.
void await_idleness(pid_t program) {
  constexpr milliseconds look{20};
  constexpr double idle_share_max = 0.1;
  constexpr milliseconds burst_min{50};  // of its time: a connection alone takes a tenth of it
  constexpr std::chrono::seconds patience{20};
  const nanoseconds before = cpu_time_of(program);
  const auto deadline = steady::now() + patience;
  auto idle_since = steady::now();
  while (steady::now() < deadline) {
    const bool busy = shares_over(look, {program}).front() > idle_share_max;
    const auto now = steady::now();
    if (busy) {
      idle_since = now;
    } else if (now - idle_since >= after_burst && cpu_time_of(program) - before >= burst_min) {
      return;
    }
  }
  give_up({.what = {errc::timed_out},
           .operation = "wait for",
           .object = "the end of a burst",
           .hint = {}});
}

/// The burst is perf's filling of the disk; its one I/O a second after that is part of the share.
/// @return of the target, of perf
std::vector<double> measure_shares(const options& asked) {
  const running_target target{asked.runnel, {"--poll", "adaptive", "--namespace", "ram:256M"}};
  auto perf = start_perf(
      asked.runnel, target,
      {"--poll", "adaptive", "--verify", "--rate", "1", "--time", "1.5", "--warmup", "0"});
  await_idleness(target.program().id());
  const auto shares = shares_over(share_window, {target.program().id(), perf.id()});
  finish_perf(std::move(perf));
  return shares;
}

row judge_share(const char* name, const std::vector<double>& shares) {
  const double percent = 100 * median_of(shares);
  return {.name = fmt::format("{}, from {} ms after a burst", name, after_burst.count()),
          .unit = "% core",
          .figure = percent,
          .spread = 100 * spread_of(shares),
          .owed = fmt::format("<= {} %", percent_max),
          .holds = at_most(percent, percent_max),
          .more = {{"worst", 100 * quantile_of(shares, 1)}}};
}

void compare_shares(const options& asked, const row_sink& add) {
  std::vector<double> of_target;
  std::vector<double> of_perf;
  for (unsigned round = 0; round < asked.rounds; ++round) {
    const std::vector<double> shares = measure_shares(asked);
    of_target.push_back(shares[0]);
    of_perf.push_back(shares[1]);
  }
  add(judge_share("target", of_target));
  add(judge_share("perf", of_perf));
}

std::vector<double> measure_echo(const echo_cores& cores, unsigned trips) {
  const auto us = sleeping_echo_us(cores, silence, trips);
  if (!us) {
    give_up(us.error());
  }
  return *us;
}

/// @return perf's latencies
nlohmann::ordered_json measure_first_ios(const options& asked) {
  const running_target target{asked.runnel, {"--poll", "adaptive", "--namespace", "null:1G"}};
  const double seconds = static_cast<double>(asked.first_ios) / first_ios_per_second;
  const finished_run perf =
      run_perf(asked.runnel, target,
               {"--poll", "adaptive", "--rate", std::to_string(first_ios_per_second), "--time",
                fmt::format("{}", seconds), "--warmup", "0.2"});
  return perf.output["latency_ns"];
}

row compare_first_ios(const options& asked) {
  const auto cores = two_cores();
  const echo_cores places{.caller = core_id{cores.first}, .answerer = core_id{cores.second}};
  std::vector<double> echo = measure_echo(places, asked.first_ios / 2);
  const nlohmann::ordered_json ns = measure_first_ios(asked);
  const auto later = measure_echo(places, asked.first_ios - asked.first_ios / 2);
  echo.insert(echo.end(), later.begin(), later.end());
  const double p99_us = ns["p99"].get<double>() / 1e3;
  const double echo_p99_us = quantile_of(echo, 0.99);
  return {.name = fmt::format("p99 of first I/Os after {} ms", silence.count()),
          .unit = "us",
          .figure = p99_us,
          .against = "two bare sleepers",
          .peer = echo_p99_us,
          .above = p99_us - echo_p99_us,
          .owed = fmt::format("<= {} us", first_io_us_max),
          .holds = at_most(p99_us, first_io_us_max),
          .more = {{"p50_us", ns["p50"].get<double>() / 1e3},
                   {"max_us", ns["max"].get<double>() / 1e3},
                   {"echo_p50_us", quantile_of(echo, 0.5)},
                   {"echo_max_us", quantile_of(echo, 1)}}};
}

}  // namespace
}  // namespace runnel::bench

int main(int argc, char** argv) {
  using namespace runnel::bench;
  options asked{{.seconds = 0.3}};
  return run_bench(
      {.title = "what sleeping when idle costs, and saves",
       .declare =
           [&asked](CLI::App& program) {
             program.add_option("--runnel", asked.runnel, "the binary to measure")->required();
             program.add_option("--first-ios", asked.first_ios, "I/Os after a silence, 9 a second")
                 ->check(CLI::Range(2U, 2000U))
                 ->capture_default_str();
           },
       .measure =
           [&asked](const row_sink& add) {
             compare_rates(asked, add);
             compare_shares(asked, add);
             add(compare_first_ios(asked));
           }},
      asked, {argc, argv});
}
