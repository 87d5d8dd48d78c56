#pragma once

#include <functional>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

// Benches whose rows are costs: less is better. At most so much is owed, or so much of what the
// best of the libraries takes that a user would take instead.
namespace runnel::bench {

struct contestant {
  std::string name;
  std::function<double(double seconds)> cost{};  // takes so long; empty: not on this machine
  std::string lacks{};                           // what to install then
  /// What it is known to cost at its best; 0: that is not known. One that costs much more is not
  /// at its best, nor are other peers in the same run: no row against them says anything then.
  double known_cost = 0;
  double owed_max = 0;        // 0: nothing is owed in this form
  double owed_ratio_max = 0;  // to the best of the peers
};

/// They are measured in turn, in each round.
struct contest {
  std::string unit;
  std::vector<contestant> ours;
  std::vector<contestant> peers{};
  std::vector<contestant> shown{};  // beside them, and not judged
};

struct contest_table {
  const char* title;
  std::span<const contest> contests;
  std::optional<std::pair<unsigned, unsigned>> cores{};  // two that are used
};

/// The whole of such a bench, with a row for each contestant. @return exit status
[[nodiscard]] int run_contests(const contest_table& table, std::pair<int, char**> arguments);

}  // namespace runnel::bench
