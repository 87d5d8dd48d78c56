#pragma once

#include <CLI/CLI.hpp>

#include <functional>
#include <string>
#include <string_view>
#include <utility>

#include "bench/rows.h"

namespace runnel::bench {

/// What every bench may be told; the values are its defaults.
struct settings {
  std::string json_file = {};
  unsigned rounds = 7;   // interleaved
  double seconds = 0.5;  // per run
};

/// Takes the rows as they come.
using row_sink = std::function<void(const row&)>;

/// What a bench is, apart from what all have in common.
struct bench {
  const char* title;
  std::function<void(CLI::App&)> declare;  // its own options
  std::function<void(const row_sink&)> measure;
};

/// The whole of a bench's main function: reads the options, prints each row that `measure` gives,
/// and writes them to the file that was asked for. @return exit status
int run_bench(const bench& self, settings& asked, std::pair<int, char**> arguments);

/// Ends the bench as one that could not be run here, and says why.
[[noreturn]] void skip(const char* reason);

/// The last core we may run on, which `runnel perf` takes too.
[[nodiscard]] unsigned last_core();

/// That and the first one: the initiator's and the target's. Skips where they are the same.
[[nodiscard]] std::pair<unsigned, unsigned> two_cores();

/// How far apart they are now, in cycles.
[[nodiscard]] double ping_pong_cycles(const std::pair<unsigned, unsigned>& cores);

}  // namespace runnel::bench
