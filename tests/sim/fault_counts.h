#pragma once

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

namespace runnel::sim {

/// How often faults of each kind came to pass in a run of many seeds. `Kind` counts from 0 and ends
/// with `count`.
template <class Kind>
class fault_counts {
 public:
  static constexpr auto kinds = static_cast<std::size_t>(Kind::count);
  using names = std::array<const char*, kinds>;
  /// What a whole run owes of each kind; one of fewer seeds owes its share.
  static constexpr std::uint64_t owed = 100;

  explicit fault_counts(const names& all) : names_{all} {}

  void add(Kind which, std::uint64_t times = 1) {
    counts_[static_cast<std::size_t>(which)] += times;
  }
  [[nodiscard]] std::uint64_t of(Kind which) const {
    return counts_[static_cast<std::size_t>(which)];
  }

  /// Prints all counts, and fails for those that are too small. A single seed owes nothing.
  void report(std::uint64_t seeds_run, std::uint64_t seeds_usual) const {
    std::string line = fmt::format("{} seeds:", seeds_run);
    for (std::size_t i = 0; i < kinds; ++i) {
      line += fmt::format(" {} {}{}", counts_[i], names_[i], i + 1 < kinds ? "," : "");
      EXPECT_GE(counts_[i], seeds_run == 1 ? 0 : owed * seeds_run / seeds_usual) << names_[i];
    }
    fmt::print("{}\n", line);
  }

 private:
  names names_;
  std::array<std::uint64_t, kinds> counts_{};
};

}  // namespace runnel::sim
