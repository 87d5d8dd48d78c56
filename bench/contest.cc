#include "bench/contest.h"

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include <algorithm>
#include <ranges>

#include "bench/bench.h"
#include "bench/rounds.h"
#include "bench/samples.h"

namespace runnel::bench {
namespace {

constexpr double far_from_its_best = 1.25;  // a rate 20 % below the known one

struct entrant {
  const contestant* who;
  std::vector<double> costs;  // in each round; empty: it is not here

  [[nodiscard]] bool is_known() const { return !costs.empty() && who->known_cost != 0; }
  [[nodiscard]] bool is_at_its_best() const {
    return median_of(costs) <= who->known_cost * far_from_its_best;
  }
};

/// A contest that was held, and not judged yet.
struct measured_contest {
  const contest* which;
  std::vector<entrant> entrants;
  std::optional<double> line = {};  // between the two cores, if two are used
  unsigned discarded = 0;
  std::string why_void = {};
};

/// A round of a contest: what each entrant cost, in order; 0: it is not here.
struct contest_round {
  line_of_round line;
  std::vector<double> costs;
  bool preempted = false;  // threads that spin do not tell
};

/// What those entrants of a run tell whose costs are known.
struct peer_check {
  bool made = false;  // there is one
  bool passed = true;
};

std::vector<entrant> entrants_of(const contest& one) {
  std::vector<entrant> all;
  for (const auto* group : {&one.ours, &one.peers, &one.shown}) {
    for (const contestant& who : *group) {
      all.push_back({&who, {}});
    }
  }
  return all;
}

/// Null: no peer is here.
const entrant* best_of(std::span<const entrant> peers) {
  const entrant* best = nullptr;
  for (const entrant& one : peers) {
    if (!one.costs.empty() && (best == nullptr || median_of(one.costs) < median_of(best->costs))) {
      best = &one;
    }
  }
  return best;
}

row row_of(const entrant& one, const std::string& unit) {
  row out{.name = one.who->name, .unit = unit};
  if (one.costs.empty()) {
    out.why_void = "not here: install " + one.who->lacks;
    return out;
  }
  out.figure = median_of(one.costs);
  out.spread = spread_of(one.costs);
  if (one.who->known_cost != 0) {
    out.more["known"] = one.who->known_cost;
  }
  return out;
}

void judge_alone(row& ours, const contestant& us) {
  if (us.owed_max != 0) {
    ours.owed = fmt::format("<= {} {}", us.owed_max, ours.unit);
    ours.holds = at_most(ours.figure, us.owed_max);
  }
}

void judge_against(row& ours, const entrant& us, const entrant& best) {
  std::vector<double> ratios(us.costs.size());
  std::ranges::transform(us.costs, best.costs, ratios.begin(), std::divides{});
  ours.against = best.who->name;
  ours.peer = median_of(best.costs);
  ours.ratio = median_of(ratios);
  if (us.who->owed_ratio_max != 0) {
    ours.owed = fmt::format("<= {:.1f}x", us.who->owed_ratio_max);
    ours.holds = at_most(*ours.ratio, us.who->owed_ratio_max);
  }
}

std::vector<row> judge(const measured_contest& held, const peer_check& check) {
  const contest& which = *held.which;
  const std::span entrants{held.entrants};
  const entrant* const best = best_of(entrants.subspan(which.ours.size(), which.peers.size()));
  std::vector<row> rows;
  for (const entrant& one : entrants) {
    rows.push_back(row_of(one, which.unit));
    rows.back().ping_pong_cycles = held.line;
    rows.back().discarded = held.discarded;
  }
  for (std::size_t i = 0; i < which.ours.size(); ++i) {
    judge_alone(rows[i], which.ours[i]);
    if (best != nullptr) {
      judge_against(rows[i], entrants[i], *best);
      rows[i].peers_unchecked = !check.made;
      rows[i].why_void = check.passed ? held.why_void : "a peer is not at its best";
    } else if (!which.peers.empty()) {
      rows[i].why_void = "no peer here";
    }
  }
  return rows;
}

peer_check check_peers(std::span<const measured_contest> run) {
  peer_check check;
  for (const measured_contest& each : run) {
    for (const entrant& one : each.entrants | std::views::filter(&entrant::is_known)) {
      check.made = true;
      check.passed = check.passed && one.is_at_its_best();
    }
  }
  return check;
}

contest_round hold_round(std::span<const entrant> entrants, const contest_table& table,
                         double seconds) {
  contest_round now;
  now.line.before = table.cores ? ping_pong_cycles(*table.cores) : 0;
  for (const entrant& one : entrants) {
    now.costs.push_back(one.who->cost ? one.who->cost(seconds) : 0);
  }
  now.line.after = table.cores ? ping_pong_cycles(*table.cores) : 0;
  return now;
}

measured_contest hold(const contest& which, const contest_table& table, const settings& asked) {
  measured_contest held{.which = &which, .entrants = entrants_of(which)};
  auto taken =
      take_rounds(asked.rounds, [&] { return hold_round(held.entrants, table, asked.seconds); });
  for (std::size_t i = 0; i < held.entrants.size(); ++i) {
    if (held.entrants[i].who->cost) {
      held.entrants[i].costs =
          column(taken.samples, [i](const contest_round& one) { return one.costs[i]; });
    }
  }
  if (table.cores) {
    held.line =
        median_of(column(taken.samples, [](const contest_round& one) { return one.line.before; }));
  }
  held.discarded = taken.discarded;
  held.why_void = std::move(taken.why_void);
  return held;
}

}  // namespace

int run_contests(const contest_table& table, std::pair<int, char**> arguments) {
  settings asked{.seconds = 0.1};
  const auto hold_all = [&table, &asked](const row_sink& add) {
    std::vector<measured_contest> run;
    for (const contest& each : table.contests) {
      run.push_back(hold(each, table, asked));
    }
    const peer_check check = check_peers(run);
    for (const measured_contest& each : run) {
      std::ranges::for_each(judge(each, check), add);
    }
  };
  return run_bench({.title = table.title, .declare = [](CLI::App&) {}, .measure = hold_all}, asked,
                   arguments);
}

}  // namespace runnel::bench
