#include "bench/rows.h"

#include <fmt/format.h>

#include <cmath>
#include <cstdio>

namespace runnel::bench {
namespace {

using nlohmann::ordered_json;

constexpr const char* columns =
    "{:<36} {:>7} {:<8} {:>6} {:>7} {:<19} {:>7} {:>6} {:>4}  {:<18} {}\n";

/// Three digits that matter, blank when there is no such number.
/// @param sign  before a positive one
std::string number(const ordered_json& one, const char* key, const char* sign = "") {
  if (!one.contains(key)) {
    return {};
  }
  const double value = one[key].get<double>();
  const double size = std::abs(value);
  const int decimals = size >= 100 ? 0 : size >= 10 ? 1 : size >= 1 ? 2 : 3;
  return fmt::format("{}{:.{}f}", value < 0 ? "" : sign, value, decimals);
}

std::string relation(const ordered_json& one) {
  if (one.contains("ratio")) {
    return number(one, "ratio") + "x";
  }
  return number(one, "above", "+");
}

std::string verdict(const ordered_json& one) {
  if (one.contains("void")) {
    return "void: " + one["void"].get<std::string>();
  }
  if (one["owed"].get<std::string>().empty()) {
    return "";
  }
  const char* const doubt = one.contains("peers_unchecked") ? ", peers unchecked" : "";
  return (one["holds"].get<bool>() ? "holds" : "SHORT") + std::string{doubt};
}

/// "722 ns", "1.5": figures that count nothing have no unit.
std::string with_unit(const std::string& value, const ordered_json& one) {
  return value + (value.empty() ? "" : " " + one.value("unit", ""));
}

}  // namespace

ordered_json to_json(const row& one) {
  ordered_json out{
      {"row", one.name}, {"unit", one.unit}, {"figure", one.figure}, {"spread", one.spread}};
  const auto add = [&out](const char* key, const std::optional<double>& value) {
    if (value) {
      out[key] = *value;
    }
  };
  if (!one.against.empty()) {
    out["against"] = one.against;
  }
  add("peer", one.peer);
  add("ratio", one.ratio);
  add("above", one.above);
  add("ping_pong_cycles", one.ping_pong_cycles);
  out["discarded"] = one.discarded;
  out["owed"] = one.owed;
  out["holds"] = one.holds && one.why_void.empty();
  if (!one.why_void.empty()) {
    out["void"] = one.why_void;
  }
  if (one.peers_unchecked) {
    out["peers_unchecked"] = true;
  }
  if (!one.more.empty()) {
    out["more"] = one.more;
  }
  return out;
}

void print_head(std::string_view title) {
  fmt::print(columns, title, "figure", "", "+-", "peer", "", "", "line", "lost", "owed", "verdict");
}

void print_row(const ordered_json& one) {
  fmt::print(columns, one["row"].get<std::string>(), number(one, "figure"), one.value("unit", ""),
             number(one, "spread"), number(one, "peer"), one.value("against", ""), relation(one),
             number(one, "ping_pong_cycles"), one.value("discarded", 0U),
             one["owed"].get<std::string>(), verdict(one));
  std::fflush(stdout);
}

std::string to_markdown(const ordered_json& rows) {
  constexpr const char* line = "| {} | {} | {} | {} | {} | {} | {} | {} |\n";
  std::string out =
      fmt::format(line, "what", "figure", "beside it", "", "line", "owed", "", "again");
  out += fmt::format(line, "---", "--:", "---", "--:", "--:", "---", "---", "---");
  for (const ordered_json& one : rows) {
    const std::string peer = with_unit(number(one, "peer"), one);
    out += fmt::format(line, one["row"].get<std::string>(), with_unit(number(one, "figure"), one),
                       peer.empty() ? "" : one.value("against", "") + ": " + peer, relation(one),
                       number(one, "ping_pong_cycles"), one["owed"].get<std::string>(),
                       verdict(one), "`./dev bench " + one["bench"].get<std::string>() + "`");
  }
  return out;
}

}  // namespace runnel::bench
