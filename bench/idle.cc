// Claim: a target and a client that sleep when idle cost less than 1 % of a core each from 100 ms
// after a burst on, their first I/O after a silence is done within about 200 us, and under load
// they are as fast as when they never sleep. Throughput is taken in interleaved rounds beside busy
// polling; the first I/Os beside two bare processes that wake one another.

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <poll.h>
#include <sys/types.h>

#include <array>
#include <chrono>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <fstream>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "bench/need.h"
#include "bench/programs.h"
#include "bench/samples.h"
#include "bench/sleeping_echo.h"
#include "mempool/base/clock.h"
#include "runtime/cores.h"

namespace runnel::bench {
namespace {

using nlohmann::ordered_json;
using std::chrono::milliseconds;
using steady = std::chrono::steady_clock;

constexpr double of_busy_min = 0.98;
constexpr double share_max = 0.01;  // of a core
constexpr double first_io_us_max = 200;

constexpr milliseconds after_burst{100};
constexpr milliseconds share_window{1000};
// The target looks at its client every 50 ms: a multiple of that would find it half awake.
constexpr unsigned first_ios_per_second = 9;
constexpr milliseconds silence{1000 / first_ios_per_second};

struct settings {
  std::string runnel;
  std::string json_file;
  unsigned rounds = 7;
  double seconds = 1.5;
  unsigned first_ios = 200;
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

/// The rate of each pairing, round by round.
using rates = std::array<std::vector<double>, pairings.size()>;

double measure_iops(const settings& asked, const pairing& polls, unsigned depth) {
  const running_target target{asked.runnel, {"--poll", polls.target, "--namespace", "null:1G"}};
  const ordered_json perf =
      run_perf(asked.runnel, target,
               {"--poll", polls.perf, "--rw", "randread", "--depth", std::to_string(depth),
                "--time", fmt::format("{}", asked.seconds), "--warmup", "0.2"});
  return perf["iops"].get<double>();
}

rates measure_rates(const settings& asked, unsigned depth) {
  rates measured;
  for (unsigned round = 0; round < asked.rounds; ++round) {
    for (std::size_t i = 0; i < pairings.size(); ++i) {
      const std::size_t which = (round + i) % pairings.size();  // each is first in its turn
      measured[which].push_back(measure_iops(asked, pairings[which], depth));
    }
  }
  return measured;
}

/// @param busy  the rates of the same rounds
ordered_json judge_rate(const std::vector<double>& iops, const std::vector<double>& busy) {
  std::vector<double> ratios;
  ratios.reserve(iops.size());
  for (std::size_t round = 0; round < iops.size(); ++round) {
    ratios.push_back(iops[round] / busy[round]);
  }
  return {{"million_iops", median_of(iops) / 1e6},
          {"spread_million_iops", spread_of(iops) / 1e6},
          {"of_busy", median_of(ratios)},
          {"spread_of_busy", spread_of(ratios)},
          {"holds", median_of(ratios) >= of_busy_min}};
}

const char* verdict(const ordered_json& row) {
  return row["holds"].get<bool>() ? "holds" : "SHORT";
}

double number(const ordered_json& row, const char* key) {
  return row[key].get<double>();
}

ordered_json compare_rates(const settings& asked) {
  ordered_json rows = ordered_json::array();
  fmt::print("{:<36} {:>7} {:>6} {:>8} {:>6}  {:<10} verdict\n", "null:1G, 4 KiB random reads",
             "M IOPS", "+-", "of busy", "+-", "owed");
  for (const unsigned depth : depths) {
    const rates measured = measure_rates(asked, depth);
    for (std::size_t i = 0; i < pairings.size(); ++i) {
      ordered_json row{{"row", fmt::format("depth {}, {}", depth, pairings[i].name)}};
      row.update(judge_rate(measured[i], measured[0]));
      fmt::print("{:<36} {:>7.3f} {:>6.3f} {:>8.3f} {:>6.3f}  >= {:<7} {}\n",
                 row["row"].get<std::string>(), number(row, "million_iops"),
                 number(row, "spread_million_iops"), number(row, "of_busy"),
                 number(row, "spread_of_busy"), of_busy_min, verdict(row));
      rows.push_back(row);
    }
    std::fflush(stdout);
  }
  return rows;
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
std::vector<double> measure_shares(const settings& asked) {
  const running_target target{asked.runnel, {"--poll", "adaptive", "--namespace", "ram:256M"}};
  auto perf = start_perf(
      asked.runnel, target,
      {"--poll", "adaptive", "--verify", "--rate", "1", "--time", "1.5", "--warmup", "0"});
  await_idleness(target.program().id());
  const auto shares = shares_over(share_window, {target.program().id(), perf.id()});
  finish_perf(std::move(perf));
  return shares;
}

ordered_json judge_share(const char* name, const std::vector<double>& shares) {
  return {{"row", name},
          {"share", median_of(shares)},
          {"spread_share", spread_of(shares)},
          {"share_max", quantile_of(shares, 1)},
          {"holds", median_of(shares) < share_max}};
}

ordered_json compare_shares(const settings& asked) {
  std::vector<double> of_target;
  std::vector<double> of_perf;
  for (unsigned round = 0; round < asked.rounds; ++round) {
    const std::vector<double> shares = measure_shares(asked);
    of_target.push_back(shares[0]);
    of_perf.push_back(shares[1]);
  }
  const ordered_json rows{judge_share("target", of_target), judge_share("perf", of_perf)};
  fmt::print("\n{:<36} {:>7} {:>6} {:>8} {:>6}  {:<10} verdict\n",
             fmt::format("1 s from {} ms after a burst", after_burst.count()), "% core", "+-",
             "max", "", "owed");
  for (const ordered_json& row : rows) {
    fmt::print("{:<36} {:>7.3f} {:>6.3f} {:>8.3f} {:>6}  < {:<8} {}\n",
               row["row"].get<std::string>(), 100 * number(row, "share"),
               100 * number(row, "spread_share"), 100 * number(row, "share_max"), "",
               100 * share_max, verdict(row));
  }
  std::fflush(stdout);
  return rows;
}

std::vector<double> measure_echo(const echo_cores& cores, unsigned trips) {
  const auto us = sleeping_echo_us(cores, silence, trips);
  if (!us) {
    give_up(us.error());
  }
  return *us;
}

/// @return perf's latencies
ordered_json measure_first_ios(const settings& asked) {
  const running_target target{asked.runnel, {"--poll", "adaptive", "--namespace", "null:1G"}};
  const double seconds = static_cast<double>(asked.first_ios) / first_ios_per_second;
  return run_perf(asked.runnel, target,
                  {"--poll", "adaptive", "--rate", std::to_string(first_ios_per_second), "--time",
                   fmt::format("{}", seconds), "--warmup", "0.2"})["latency_ns"];
}

void print_latency(const ordered_json& row, const std::string& owed) {
  fmt::print("{:<36} {:>7.1f} {:>6.1f} {:>8.1f} {:>6}  {}\n", row["row"].get<std::string>(),
             number(row, "p50_us"), number(row, "p99_us"), number(row, "max_us"), "", owed);
}

ordered_json compare_first_ios(const settings& asked, const echo_cores& cores) {
  std::vector<double> echo = measure_echo(cores, asked.first_ios / 2);
  const ordered_json ns = measure_first_ios(asked);
  const std::vector<double> later = measure_echo(cores, asked.first_ios - asked.first_ios / 2);
  echo.insert(echo.end(), later.begin(), later.end());
  const ordered_json floor{{"row", "two bare processes that sleep"},
                           {"p50_us", quantile_of(echo, 0.5)},
                           {"p99_us", quantile_of(echo, 0.99)},
                           {"max_us", quantile_of(echo, 1)}};
  const double p99_us = number(ns, "p99") / 1e3;
  const ordered_json ours{{"row", "target and perf"},
                          {"p50_us", number(ns, "p50") / 1e3},
                          {"p99_us", p99_us},
                          {"max_us", number(ns, "max") / 1e3},
                          {"p99_above_floor_us", p99_us - number(floor, "p99_us")},
                          {"holds", p99_us <= first_io_us_max}};
  fmt::print("\n{:<36} {:>7} {:>6} {:>8} {:>6}  {:<10} verdict\n",
             fmt::format("{} times after {} ms of silence", asked.first_ios, silence.count()),
             "p50 us", "p99", "max", "", "owed");
  print_latency(floor, "the floor");
  print_latency(ours, fmt::format("p99 <= {:<3} {}", first_io_us_max, verdict(ours)));
  return {floor, ours};
}

int run(int argc, char** argv) {
  settings asked;
  CLI::App program{"What sleeping when idle costs, and saves"};
  program.add_option("--runnel", asked.runnel, "the binary to measure")->required();
  program.add_option("--json", asked.json_file, "also write the rows there");
  program.add_option("--rounds", asked.rounds, "interleaved rounds")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  program.add_option("--time", asked.seconds, "seconds per run under load")->capture_default_str();
  program.add_option("--first-ios", asked.first_ios, "I/Os after a silence, 9 a second")
      ->check(CLI::Range(2U, 2000U))
      ->capture_default_str();
  CLI11_PARSE(program, argc, argv);

  const auto cores = allowed_cores();
  if (!cores || cores->size() < 2) {
    fmt::print(stderr, "idle: two cores are needed\n");
    return 1;
  }
  ordered_json out;
  out["throughput"] = compare_rates(asked);
  out["cpu_share"] = compare_shares(asked);
  out["first_io"] = compare_first_ios(asked, {.caller = cores->back(), .answerer = cores->front()});
  if (!asked.json_file.empty()) {
    std::ofstream{asked.json_file} << out.dump(2) << '\n';
  }
  return 0;
}

}  // namespace
}  // namespace runnel::bench

int main(int argc, char** argv) {
  try {
    return runnel::bench::run(argc, argv);
  } catch (const std::exception& problem) {  // libraries: JSON, out of memory
    fmt::print(stderr, "idle: {}\n", problem.what());
    return 1;
  }
}
