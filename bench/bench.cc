#include "bench/bench.h"

#include <fmt/format.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <vector>

#include "apps/floor/floor.h"
#include "bench/need.h"
#include "bench/programs.h"
#include "runtime/cores.h"

namespace runnel::bench {
namespace {

constexpr int exit_skipped = 77;  // as test runners understand it

std::vector<core_id> our_cores() {
  auto cores = allowed_cores();
  if (!cores) {
    give_up(cores.error());
  }
  return std::move(*cores);
}

void take_rows(const char* title, const std::string& json_file,
               const std::function<void(const row_sink&)>& measure) {
  nlohmann::ordered_json rows = nlohmann::ordered_json::array();
  print_head(title);
  measure([&rows](const row& one) {
    rows.push_back(to_json(one));
    print_row(rows.back());
  });
  if (!json_file.empty()) {
    std::ofstream{json_file} << rows.dump(2) << '\n';
  }
}

}  // namespace

int run_bench(const bench& self, settings& asked, std::pair<int, char**> arguments) {
  try {
    CLI::App program{self.title};
    self.declare(program);
    program.add_option("--json", asked.json_file, "also write the rows there");
    program.add_option("--rounds", asked.rounds, "interleaved rounds per row")
        ->check(CLI::PositiveNumber)
        ->capture_default_str();
    program.add_option("--time", asked.seconds, "seconds per run")
        ->check(CLI::Range(0.001, 60.0))
        ->capture_default_str();
    CLI11_PARSE(program, arguments.first, arguments.second);
    take_rows(self.title, asked.json_file, self.measure);
    return 0;
  } catch (const std::exception& problem) {  // libraries: CLI11, JSON, out of memory
    fmt::print(stderr, "{}: {}\n", program_invocation_short_name, problem.what());
    return 1;
  }
}

void skip(const char* reason) {
  fmt::print(stderr, "{}: skipped: {}\n", program_invocation_short_name, reason);
  std::exit(exit_skipped);  // NOLINT(concurrency-mt-unsafe): benches are of one thread
}

unsigned last_core() {
  return raw(our_cores().back());
}

std::pair<unsigned, unsigned> two_cores() {
  const auto cores = our_cores();
  if (cores.size() < 2) {
    skip("two cores are needed");
  }
  return {raw(cores.back()), raw(cores.front())};
}

double ping_pong_cycles(const std::pair<unsigned, unsigned>& cores) {
  const auto line = floor::ping_pong(cores.first, cores.second);
  if (!line) {
    give_up(line.error());
  }
  return line->cycles;
}

}  // namespace runnel::bench
