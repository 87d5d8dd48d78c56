#pragma once

#include "apps/perf/options.h"
#include "apps/perf/report.h"
#include "mempool/base/error.h"

namespace runnel::perf {

/// Opens the device, runs the workload on every core asked for, and closes it again. `asked.cores`
/// must name at least one core.
/// @error whatever keeps the run from starting, or device_gone
/// @context control thread; an engine of its own
[[nodiscard]] outcome<report> run(const options& asked);

}  // namespace runnel::perf
