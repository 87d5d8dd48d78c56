#pragma once

#include <string>
#include <vector>

#include "bench/programs.h"

namespace runnel::bench {

/// Runs a program that prints one JSON object, and looks from outside how long its threads were
/// ready while others were on their cores. So programs that do not tell are judged as ours are.
[[nodiscard]] finished_run run_watched(const std::vector<std::string>& line);

}  // namespace runnel::bench
