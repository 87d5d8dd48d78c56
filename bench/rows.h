#pragma once

#include <nlohmann/json.hpp>

#include <optional>
#include <string>
#include <string_view>

// One row shape for every bench: what `./dev bench` prints and keeps.
namespace runnel::bench {

/// A figure, what it is judged against in the same run, what is owed, and whether that holds.
struct row {
  std::string name;
  std::string unit = {};             // of figure, spread, peer and above
  double figure = 0;                 // median over the rounds
  double spread = 0;                 // median absolute deviation
  std::string against = {};          // the peer or the floor; empty: the bound stands alone
  std::optional<double> peer = {};   // its figure
  std::optional<double> ratio = {};  // of figure to peer, round by round
  std::optional<double> above = {};  // or what figure has over peer
  std::optional<double> ping_pong_cycles = {};  // of a line between the two cores, if two are used
  unsigned discarded = 0;                       // rounds that were preempted
  bool peers_unchecked = false;                 // nothing tells whether they were at their best
  std::string owed = {};
  bool holds = false;
  std::string why_void = {};         // not empty: the row says nothing, and why
  nlohmann::ordered_json more = {};  // what else was measured, by name
};

/// Fields that are empty are absent.
[[nodiscard]] nlohmann::ordered_json to_json(const row& one);

/// Over the columns: `line` is the ping-pong, `lost` the rounds that were discarded.
void print_head(std::string_view title);
/// A row as JSON. `row`, `owed` and `holds` must be there; what else is missing is left blank.
void print_row(const nlohmann::ordered_json& one);

/// A table of the rows of all benches, each with the command that makes it again.
[[nodiscard]] std::string to_markdown(const nlohmann::ordered_json& rows);

/// Whether a median keeps its bound; noise is granted 2 %.
[[nodiscard]] constexpr bool at_most(double figure, double bound) noexcept {
  return figure <= bound * 1.02;
}
[[nodiscard]] constexpr bool at_least(double figure, double bound) noexcept {
  return figure >= bound * 0.98;
}

}  // namespace runnel::bench
