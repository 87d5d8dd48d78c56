// The end of `./dev bench`: the rows of all benches as one table and one file, with what a reader
// needs to know of the machine and the build.

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <cstddef>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>
#include <vector>

#include "apps/floor/floor.h"
#include "bench/need.h"
#include "bench/rows.h"

namespace runnel::bench {
namespace {

using nlohmann::ordered_json;

/// "AMD EPYC", as the kernel tells.
std::string cpu_model() {
  std::ifstream file{"/proc/cpuinfo"};
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("model name")) {
      return line.substr(line.find(": ") + 2);
    }
  }
  return "unknown";
}

/// Prints the rows of one bench. @return them, each with the bench's name
ordered_json take(const std::filesystem::path& file) {
  std::ifstream in{file};
  ordered_json rows = ordered_json::parse(in);
  const std::string name = file.stem();
  print_head(name);
  for (ordered_json& one : rows) {
    print_row(one);
    one["bench"] = name;
  }
  fmt::print("\n");
  return rows;
}

void print_counts(const ordered_json& rows) {
  unsigned held = 0;
  unsigned voided = 0;
  unsigned fell_short = 0;
  for (const ordered_json& one : rows) {
    if (one["owed"].get<std::string>().empty()) {
      continue;
    }
    unsigned& count = one.contains("void") ? voided : one["holds"].get<bool>() ? held : fell_short;
    ++count;
  }
  fmt::print("{} hold, {} are short, {} void\n", held, fell_short, voided);
}

void make_table(const std::vector<std::string>& files, const std::string& commit,
                const std::string& json_file) {
  ordered_json all{{"commit", commit},
                   {"cpu", cpu_model()},
                   {"governor", floor::governor(0)},
                   {"compiler", "g++ " __VERSION__},
                   {"rows", ordered_json::array()}};
  for (const std::string& file : files) {
    const ordered_json rows = take(file);
    all["rows"].insert(all["rows"].end(), rows.begin(), rows.end());
  }
  print_counts(all["rows"]);
  fmt::print("commit {}, {}, governor {}, {}\n", commit, all["cpu"].get<std::string>(),
             all["governor"].get<std::string>(), all["compiler"].get<std::string>());
  std::ofstream{json_file} << all.dump(2) << '\n';
}

std::string text_of(const std::string& file) {
  std::ifstream in{file};
  return {std::istreambuf_iterator<char>{in}, {}};
}

/// Puts what was written to `json_file` between two marks.
void renew(const std::string& readme, const std::string& json_file) {
  constexpr std::string_view begins = "<!-- bench -->\n";
  constexpr std::string_view ends = "<!-- /bench -->\n";
  const ordered_json all = ordered_json::parse(text_of(json_file));
  std::string text = text_of(readme);
  const std::size_t from = text.find(begins) + begins.size();
  const std::size_t to = text.find(ends, from);
  if (from < begins.size() || to == std::string::npos) {
    give_up({.what = {errc::invalid},
             .operation = "put the table into",
             .object = readme,
             .hint = "it lacks the lines that are to be around it"});
  }
  text.replace(from, to - from,
               fmt::format("{}\nCommit {}, {}.\n", to_markdown(all["rows"]),
                           all["commit"].get<std::string>(), all["compiler"].get<std::string>()));
  std::ofstream{readme} << text;
}

}  // namespace
}  // namespace runnel::bench

int main(int argc, char** argv) {
  try {
    std::vector<std::string> files;
    std::string commit;
    std::string json_file;
    std::string readme;
    CLI::App program{"The rows of all benches as one table and one file"};
    program.add_option("files", files, "what benches wrote with --json");
    program.add_option("--commit", commit, "what was measured");
    program.add_option("--json", json_file, "where to write all of it")->required();
    program.add_option("--readme", readme, "only put what was written there into this file");
    CLI11_PARSE(program, argc, argv);
    if (readme.empty()) {
      runnel::bench::make_table(files, commit, json_file);
    } else {
      runnel::bench::renew(readme, json_file);
    }
    return 0;
  } catch (const std::exception& problem) {  // libraries, or a file that is none of ours
    fmt::print(stderr, "table: {}\n", problem.what());
    return 1;
  }
}
