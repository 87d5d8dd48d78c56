#pragma once

#include <nlohmann/json.hpp>

#include <cstdint>
#include <string>
#include <vector>

#include "apps/process/child_process.h"
#include "mempool/base/error.h"

// The programs that are measured, started as their users start them. What keeps one from running
// ends the bench: there is nothing to measure then.
namespace runnel::bench {

/// `runnel target` on a socket of this process, ready for clients until it is destroyed or this
/// process exits. One at a time; what it complains of is not shown.
class running_target {
 public:
  /// @param runnel  path of the binary
  /// @param words  all but where to listen
  running_target(const std::string& runnel, const std::vector<std::string>& words);
  running_target(const running_target&) = delete;
  running_target& operator=(const running_target&) = delete;
  ~running_target();

  [[nodiscard]] std::string address() const;
  [[nodiscard]] const process::child_process& program() const noexcept;

  /// What it counted itself for the client that left, and that nobody has asked for yet.
  [[nodiscard]] std::uint64_t served_reads_and_writes();
};

/// A program that ran to its end, and what it took of the machine.
struct finished_run {
  nlohmann::ordered_json output;
  double cpu_ns = 0;          // user and system, all threads
  double off_core_share = 0;  // of the time, others were on its core: the worst one of perf's and
                              // the target's

  /// Kernel threads take some 2 % of a core; a program that should not be there a quarter or more.
  [[nodiscard]] bool preempted() const noexcept { return off_core_share > 0.06; }
};

/// Runs a program that prints one JSON object.
[[nodiscard]] finished_run run_program(const std::vector<std::string>& line);

/// The same, and how long its threads were ready while others were on their cores, looked at from
/// outside every 20 ms: programs that do not tell are judged as ours are.
[[nodiscard]] finished_run run_watched(const std::vector<std::string>& line);

/// `runnel perf` with `address` as its device.
[[nodiscard]] finished_run run_perf(const std::string& runnel, const std::string& address,
                                    const std::vector<std::string>& words);
/// `runnel perf` with `target` as its device.
[[nodiscard]] finished_run run_perf(const std::string& runnel, const running_target& target,
                                    const std::vector<std::string>& words);

/// The same in two parts: under way, and its end. @return what it measured
[[nodiscard]] process::child_process start_perf(const std::string& runnel,
                                                const running_target& target,
                                                const std::vector<std::string>& words);
nlohmann::ordered_json finish_perf(process::child_process perf);

}  // namespace runnel::bench
