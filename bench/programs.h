#pragma once

#include <nlohmann/json.hpp>

#include <string>
#include <vector>

#include "apps/process/child_process.h"
#include "mempool/base/error.h"

// The programs that are measured, started as their users start them. What keeps one from running
// ends the bench: there is nothing to measure then.
namespace runnel::bench {

/// `runnel target` on a socket of this process, ready for clients until it is destroyed or this
/// process exits. One at a time.
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
};

/// `runnel perf` with `target` as its device, under way.
[[nodiscard]] process::child_process start_perf(const std::string& runnel,
                                                const running_target& target,
                                                const std::vector<std::string>& words);

/// Waits for perf's end. @return what it measured
nlohmann::ordered_json finish_perf(process::child_process perf);

/// Both of them.
nlohmann::ordered_json run_perf(const std::string& runnel, const running_target& target,
                                const std::vector<std::string>& words);

}  // namespace runnel::bench
