#pragma once

#include <functional>
#include <span>

// Benches whose rows are costs: one figure each, and at most so much of it is owed.
namespace runnel::bench {

struct cost {
  const char* name;
  const char* unit;
  double owed_max;  // 0: nothing is owed, the row explains others
};

struct cost_table {
  const char* title;
  std::span<const cost> rows;
  /// Takes one figure for each row, all of them in about `seconds` each.
  std::function<void(double seconds, std::span<double> figures)> measure_round;
};

/// The whole of such a bench: reads the words of the command line, measures its rounds, prints a
/// row for each cost with the median over them, writes JSON where it is told. @return exit status
[[nodiscard]] int run_cost_table(const cost_table& table, int argc, char** argv);

}  // namespace runnel::bench
