#pragma once

#include "mempool/base/error.h"
#include "runtime/confinement.h"
#include "runtime/engine.h"
#include "runtime/task_report.h"

namespace runnel::process {

/// Confines the whole program, for good: all that it needs is open, and what is left to do is what
/// its engine's devices were opened for. That filters could not be had is among the engine's notes.
/// @param tasks  null: it has no such thread
/// @error see confinement
/// @context control thread, the only one besides those of `host` and `tasks`; once
[[nodiscard]] outcome<> confine(const confinement_options& wished, engine& host,
                                task_report* tasks);

}  // namespace runnel::process
