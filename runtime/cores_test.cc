// Goal: the memory next to a core is found. Method: machines that hwloc makes up.
#include "runtime/cores.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <vector>

namespace runnel {
namespace {

class made_up_machine {
 public:
  explicit made_up_machine(const char* what) { setenv("HWLOC_SYNTHETIC", what, 1); }
  made_up_machine(const made_up_machine&) = delete;
  made_up_machine& operator=(const made_up_machine&) = delete;
  ~made_up_machine() { unsetenv("HWLOC_SYNTHETIC"); }
};

std::vector<std::uint32_t> nodes_of_cores(std::vector<core_id> cores) {
  std::vector<std::uint32_t> numbers;
  for (const numa_node node : nodes_of(cores)) {
    numbers.push_back(raw(node));
  }
  return numbers;
}

TEST(Cores, MemoryIsNextToThoseOfItsNode) {
  const made_up_machine two_sockets{"numa:2 core:2 pu:2"};
  EXPECT_EQ(nodes_of_cores({core_id{7}, core_id{0}, core_id{3}, core_id{4}}),
            (std::vector{1U, 0U, 0U, 1U}));
}

TEST(Cores, WhatIsNotKnownIsNextToTheFirstNode) {
  const made_up_machine small{"numa:2 core:1 pu:1"};
  EXPECT_EQ(nodes_of_cores({core_id{1}, core_id{100}}), (std::vector{1U, 0U}));
}

TEST(Cores, ThisMachineHasANodeForEachCore) {
  const auto cores = allowed_cores();
  ASSERT_TRUE(cores);
  EXPECT_EQ(nodes_of(*cores).size(), cores->size());
}

}  // namespace
}  // namespace runnel
