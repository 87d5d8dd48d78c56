#include "bench/contest.h"

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <cstdio>
#include <exception>
#include <fstream>
#include <optional>

#include "bench/samples.h"

namespace runnel::bench {
namespace {

using nlohmann::ordered_json;

constexpr double noise = 1.02;              // granted to what is owed
constexpr double far_from_its_best = 1.25;  // a rate 20 % below the known one

struct settings {
  std::string json_file;
  unsigned rounds = 7;
  double seconds = 0.1;
};

/// The median and spread of one contestant, or what it lacks.
ordered_json figure(const contestant& one, const std::vector<double>& cycles) {
  ordered_json out;
  out["name"] = one.name;
  if (!one.cycles) {
    out["missing"] = one.lacks;
    return out;
  }
  out["value"] = median_of(cycles);
  out["spread"] = spread_of(cycles);
  if (one.known_cycles != 0) {
    out["known"] = one.known_cycles;
    out["void"] = median_of(cycles) > one.known_cycles * far_from_its_best;
  }
  return out;
}

/// All contestants of a row in turn, round after round. @return a figure for each, ours first
ordered_json measure(const settings& asked, const std::vector<const contestant*>& all) {
  std::vector<std::vector<double>> cycles(all.size());
  for (unsigned round = 0; round < asked.rounds; ++round) {
    for (std::size_t i = 0; i < all.size(); ++i) {
      if (all[i]->cycles) {
        cycles[i].push_back(all[i]->cycles(asked.seconds));
      }
    }
  }
  ordered_json figures = ordered_json::array();
  for (std::size_t i = 0; i < all.size(); ++i) {
    figures.push_back(figure(*all[i], cycles[i]));
  }
  return figures;
}

std::vector<const contestant*> contestants_of(const contest& row) {
  std::vector<const contestant*> all{&row.ours};
  for (const auto* group : {&row.peers, &row.shown}) {
    for (const contestant& one : *group) {
      all.push_back(&one);
    }
  }
  return all;
}

/// Index of the fastest peer that is here.
std::optional<std::size_t> best_of(const ordered_json& figures, std::size_t peers) {
  std::optional<std::size_t> best;
  for (std::size_t i = 1; i <= peers; ++i) {
    if (figures[i].contains("value") &&
        (!best || figures[i]["value"].get<double>() < figures[*best]["value"].get<double>())) {
      best = i;
    }
  }
  return best;
}

ordered_json judge(const contest& row, const ordered_json& figures) {
  ordered_json out;
  out["row"] = row.name;
  out["unit"] = "cycles";
  out["figure"] = figures[0]["value"];
  out["spread"] = figures[0]["spread"];
  out["owed"] = row.owed_ratio_max != 0 ? fmt::format("<= {:.1f}x", row.owed_ratio_max) : "";
  out["holds"] = row.owed_ratio_max == 0;
  if (const auto best = best_of(figures, row.peers.size())) {
    const ordered_json& peer = figures[*best];
    const double ratio = figures[0]["value"].get<double>() / peer["value"].get<double>();
    out["against"] = peer["name"];
    out["peer"] = peer["value"];
    out["ratio"] = ratio;
    out["holds"] = row.owed_ratio_max == 0 || ratio <= row.owed_ratio_max * noise;
  } else {
    out["void"] = "no peer here";
  }
  for (const ordered_json& one : figures) {
    if (one.value("void", false)) {
      out["void"] = "a peer is not at its best";
    }
  }
  out["figures"] = figures;
  return out;
}

std::string verdict(const ordered_json& row) {
  if (row.contains("void")) {
    return "void: " + row["void"].get<std::string>();
  }
  if (row["owed"].get<std::string>().empty()) {
    return "";
  }
  return row["holds"].get<bool>() ? "holds" : "SHORT";
}

void print_row(const ordered_json& row) {
  const bool judged = row.contains("ratio");
  fmt::print("{:<34} {:>7.0f} {:>8.2f} {:>5.2f} {:>6} {:<8} {}\n", row["row"].get<std::string>(),
             row.value("ping_pong_cycles", 0.0), row["figure"].get<double>(),
             row["spread"].get<double>(),
             judged ? fmt::format("{:.2f}", row["ratio"].get<double>()) : "-",
             row.value("owed", std::string{}), verdict(row));
  for (const ordered_json& one : row["figures"]) {
    if (one.contains("missing")) {
      fmt::print("  {:<40} not here: install {}\n", one["name"].get<std::string>(),
                 one["missing"].get<std::string>());
      continue;
    }
    fmt::print("  {:<40} {:>8.2f} {:>5.2f} {}\n", one["name"].get<std::string>(),
               one["value"].get<double>(), one["spread"].get<double>(),
               one.contains("known") ? fmt::format("known: {}", one["known"].get<double>()) : "");
  }
  std::fflush(stdout);
}

int run(const contest_table& table, int argc, char** argv) {
  settings asked;
  CLI::App program{table.title};
  program.add_option("--json", asked.json_file, "also write the rows there");
  program.add_option("--rounds", asked.rounds, "interleaved rounds per row")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  program.add_option("--time", asked.seconds, "seconds per figure")->capture_default_str();
  CLI11_PARSE(program, argc, argv);

  ordered_json rows = ordered_json::array();
  fmt::print("{:<34} {:>7} {:>8} {:>5} {:>6} {:<8} verdict\n", table.title, "line cy", "cycles",
             "+-", "ratio", "owed");
  for (const contest& row : table.rows) {
    const double before = table.ping_pong_cycles ? table.ping_pong_cycles() : 0;
    rows.push_back(judge(row, measure(asked, contestants_of(row))));
    if (table.ping_pong_cycles) {
      rows.back()["ping_pong_cycles"] = median_of({before, table.ping_pong_cycles()});
    }
    print_row(rows.back());
  }
  if (!asked.json_file.empty()) {
    std::ofstream{asked.json_file} << rows.dump(2) << '\n';
  }
  return 0;
}

}  // namespace

int run_contests(const contest_table& table, int argc, char** argv) {
  try {
    return run(table, argc, argv);
  } catch (const std::exception& problem) {  // libraries: JSON, out of memory
    fmt::print(stderr, "{}: {}\n", argv[0], problem.what());
    return 1;
  }
}

}  // namespace runnel::bench
