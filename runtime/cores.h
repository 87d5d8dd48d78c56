#pragma once

#include <span>
#include <string>
#include <vector>

#include "mempool/base/error.h"
#include "mempool/base/units.h"

namespace runnel {

/// Cores this process may run on, ascending. @error os
[[nodiscard]] outcome<std::vector<core_id>> allowed_cores();

/// For messages: "0,2-4".
[[nodiscard]] std::string to_string(std::span<const core_id> cores);

/// Fails for the first core that is not among `allowed`; the hint lists those.
[[nodiscard]] outcome<> check_cores(std::span<const core_id> cores,
                                    std::span<const core_id> allowed);

/// The memory node that is next to each core, in their order, as hwloc knows it; node 0 where it
/// knows none. @context control thread; some milliseconds
[[nodiscard]] std::vector<numa_node> nodes_of(std::span<const core_id> cores);

}  // namespace runnel
