#include "runtime/cores.h"

#include <hwloc.h>
#include <sched.h>

#include <algorithm>
#include <cerrno>
#include <memory>

namespace runnel {
namespace {

constexpr std::size_t cores_max = 8192;  // what the largest kernel configuration allows

struct set_deleter {
  void operator()(cpu_set_t* set) const noexcept { CPU_FREE(set); }
};

struct topology_deleter {
  void operator()(hwloc_topology_t topology) const noexcept { hwloc_topology_destroy(topology); }
};
using topology = std::unique_ptr<hwloc_topology, topology_deleter>;

/// Null when hwloc cannot read it.
topology read_topology() {
  hwloc_topology_t made = nullptr;
  if (hwloc_topology_init(&made) != 0) {
    return nullptr;
  }
  topology owned{made};
  return hwloc_topology_load(made) == 0 ? std::move(owned) : nullptr;
}

numa_node node_of(hwloc_topology_t machine, core_id core) {
  const hwloc_obj_t unit = hwloc_get_pu_obj_by_os_index(machine, raw(core));
  if (unit == nullptr) {
    return {};
  }
  const int node = hwloc_bitmap_first(unit->nodeset);
  return node < 0 ? numa_node{} : numa_node{static_cast<std::uint32_t>(node)};
}

}  // namespace

outcome<std::vector<core_id>> allowed_cores() {
  const std::unique_ptr<cpu_set_t, set_deleter> set{CPU_ALLOC(cores_max)};
  const std::size_t set_bytes = CPU_ALLOC_SIZE(cores_max);
  CPU_ZERO_S(set_bytes, set.get());
  if (sched_getaffinity(0, set_bytes, set.get()) != 0) {
    return fail(os_error(), "read", "the CPU affinity of this process");
  }
  std::vector<core_id> cores;
  for (std::uint32_t core = 0; core < cores_max; ++core) {
    if (CPU_ISSET_S(core, set_bytes, set.get())) {
      cores.push_back(core_id{core});
    }
  }
  return cores;
}

std::string to_string(std::span<const core_id> cores) {
  std::string text;
  for (std::size_t first = 0; first < cores.size();) {
    std::size_t last = first;
    while (last + 1 < cores.size() && raw(cores[last + 1]) == raw(cores[last]) + 1) {
      ++last;
    }
    text += (text.empty() ? "" : ",") + std::to_string(raw(cores[first]));
    if (last != first) {
      text += "-" + std::to_string(raw(cores[last]));
    }
    first = last + 1;
  }
  return text;
}

outcome<> check_cores(std::span<const core_id> cores, std::span<const core_id> allowed) {
  for (const core_id core : cores) {
    if (std::find(allowed.begin(), allowed.end(), core) == allowed.end()) {
      return fail({errc::not_found}, "use core", std::to_string(raw(core)),
                  "this process may run on cores " + to_string(allowed));
    }
  }
  return {};
}

std::vector<numa_node> nodes_of(std::span<const core_id> cores) {
  const topology machine = read_topology();
  std::vector<numa_node> nodes;
  for (const core_id core : cores) {
    nodes.push_back(machine ? node_of(machine.get(), core) : numa_node{});
  }
  return nodes;
}

}  // namespace runnel
