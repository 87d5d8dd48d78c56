#include "bench/cost_table.h"

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <cstdio>
#include <exception>
#include <fstream>
#include <string>
#include <vector>

#include "bench/samples.h"

namespace runnel::bench {
namespace {

using nlohmann::ordered_json;

/// The row's verdict: the owed bound with the 2 % that noise is granted.
ordered_json judge(const cost& row, const std::vector<double>& figures) {
  ordered_json out;
  out["row"] = row.name;
  out["unit"] = row.unit;
  out["figure"] = median_of(figures);
  out["spread"] = spread_of(figures);
  const bool owes = row.owed_max != 0;
  out["owed"] = owes ? fmt::format("<= {}", row.owed_max) : "";
  out["holds"] = !owes || median_of(figures) <= row.owed_max * 1.02;
  return out;
}

void print_row(const ordered_json& row) {
  const auto owed = row["owed"].get<std::string>();
  const char* const verdict = owed.empty() ? "" : row["holds"].get<bool>() ? "holds" : "SHORT";
  fmt::print("{:<46} {:>9.2f} {:>7.2f}  {:<7} {:<8} {}\n", row["row"].get<std::string>(),
             row["figure"].get<double>(), row["spread"].get<double>(),
             row["unit"].get<std::string>(), owed, verdict);
}

int run(const cost_table& table, int argc, char** argv) {
  std::string json_file;
  unsigned rounds = 7;
  double seconds = 0.2;
  CLI::App program{table.title};
  program.add_option("--json", json_file, "also write the rows there");
  program.add_option("--rounds", rounds, "interleaved rounds")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  program.add_option("--time", seconds, "seconds per figure")->capture_default_str();
  CLI11_PARSE(program, argc, argv);

  std::vector<std::vector<double>> figures(table.rows.size());
  std::vector<double> round(table.rows.size());
  for (unsigned i = 0; i < rounds; ++i) {
    table.measure_round(seconds, round);
    for (std::size_t row = 0; row < round.size(); ++row) {
      figures[row].push_back(round[row]);
    }
  }
  ordered_json rows = ordered_json::array();
  fmt::print("{:<46} {:>9} {:>7}  {:<7} {:<8} verdict\n", table.title, "median", "+-", "unit",
             "owed");
  for (std::size_t row = 0; row < figures.size(); ++row) {
    rows.push_back(judge(table.rows[row], figures[row]));
    print_row(rows.back());
  }
  if (!json_file.empty()) {
    std::ofstream{json_file} << rows.dump(2) << '\n';
  }
  return 0;
}

}  // namespace

int run_cost_table(const cost_table& table, int argc, char** argv) {
  try {
    return run(table, argc, argv);
  } catch (const std::exception& problem) {  // libraries: JSON, out of memory
    fmt::print(stderr, "{}: {}\n", argv[0], problem.what());
    return 1;
  }
}

}  // namespace runnel::bench
