#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <cstdio>
#include <string>
#include <vector>

#include "apps/cli/command.h"
#include "apps/cli/core_list.h"
#include "apps/floor/floor.h"

namespace runnel::cli {
namespace {

class floor_command final : public command {
 public:
  CLI::App* declare(CLI::App& program) override {
    CLI::App* const self = program.add_subcommand(
        "floor", "Measure what this machine allows between two cores: the floor of every figure");
    self->add_option("--cores", cores_, "the two cores, as A,B")->default_str("first,last allowed");
    self->add_option("--time", seconds_, "seconds per measurement")
        ->check(CLI::Range(0.01, 60.0))
        ->capture_default_str();
    self->add_flag("--json", json_, "one JSON object on stdout");
    return self;
  }

  int run() override {
    auto cores = choose_two();
    if (!cores) {
      return report_usage(cores.error().message());
    }
    if (cores->size() != 2) {
      return report_failure(
          {.what = {errc::invalid},
           .operation = "measure",
           .object = "two cores",
           .hint =
               fmt::format("this needs two different cores; {} given or allowed", cores->size())});
    }
    return measure(cores->back(), cores->front());
  }

 private:
  outcome<std::vector<unsigned>> choose_two() const {
    auto first = choose_cores(cores_, default_core::first);
    const auto last = choose_cores(cores_, default_core::last);
    if (first && last && cores_.empty() && *first != *last) {
      first->push_back(last->front());
    }
    return first;
  }

  int measure(unsigned initiator, unsigned target) const {
    const auto line = floor::ping_pong(initiator, target);
    if (!line) {
      return report_failure(line.error());
    }
    nlohmann::ordered_json report;
    report["cores"] = {initiator, target};
    report["ping_pong_cycles"] = line->cycles;
    report["placement"] = line->state == floor::placement::near ? "near" : "far";
    report["governor"] = floor::governor(initiator);
    for (const std::uint32_t depth : {1U, 32U, 128U}) {
      const auto echo = floor::bare_echo(initiator, target, depth, seconds_);
      if (!echo) {
        return report_failure(echo.error());
      }
      report["bare_echo"].push_back({{"depth", depth},
                                     {"ns_per_io", echo->ns_per_io},
                                     {"ios", echo->ios},
                                     {"preemptions", echo->preemptions}});
    }
    print(report);
    return exit_ok;
  }

  void print(const nlohmann::ordered_json& report) const {
    if (json_) {
      fmt::print("{}\n", report.dump(2));
      return;
    }
    fmt::print("cores {} and {}: cache line there and back {:.0f} TSC cycles ({}), governor {}\n",
               report["cores"][0].get<unsigned>(), report["cores"][1].get<unsigned>(),
               report["ping_pong_cycles"].get<double>(), report["placement"].get<std::string>(),
               report["governor"].get<std::string>());
    fmt::print("{:>10} {:>12} {:>12}\n", "depth", "ns per I/O", "preempted");
    for (const auto& row : report["bare_echo"]) {
      fmt::print("{:>10} {:>12.1f} {:>12}\n", row["depth"].get<unsigned>(),
                 row["ns_per_io"].get<double>(), row["preemptions"].get<std::uint64_t>());
    }
  }

  std::string cores_;
  double seconds_ = 0.5;
  bool json_ = false;
};

}  // namespace

std::unique_ptr<command> make_floor_command() {
  return std::make_unique<floor_command>();
}

}  // namespace runnel::cli
