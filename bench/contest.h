#pragma once

#include <functional>
#include <span>
#include <string>
#include <vector>

// Benches whose rows pair us with the libraries a user would take instead: each is a contest in
// which less is better.
namespace runnel::bench {

struct contestant {
  std::string name;
  /// TSC cycles per object, measured for so many seconds. Empty: it is not on this machine.
  std::function<double(double seconds)> cycles{};
  std::string lacks{};  // what to install then
  /// What it is known to need, on a machine like the one in the README; 0: not known. A peer that
  /// needs much more is not at its best, and a row against it would say nothing.
  double known_cycles = 0;
};

struct contest {
  std::string name;
  contestant ours;
  std::vector<contestant> peers;
  double owed_ratio_max = 0;        // to the best of the peers; 0: nothing is owed
  std::vector<contestant> shown{};  // measured beside them, and not judged
};

struct contest_table {
  const char* title;
  std::span<const contest> rows;
  /// The cache-line ping-pong of these seconds; empty where one core is used.
  std::function<double()> ping_pong_cycles{};
};

/// The whole of such a bench: reads the words of the command line, measures its rounds, prints a
/// row for each contest with the medians over them, writes JSON where it is told.
/// @return exit status
[[nodiscard]] int run_contests(const contest_table& table, int argc, char** argv);

}  // namespace runnel::bench
