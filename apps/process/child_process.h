#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "mempool/base/error.h"
#include "mempool/base/unique_fd.h"

namespace runnel::process {

/// Where a program's complaints go: to our own stderr, or among its output.
enum class complaints : std::uint8_t { to_ours, to_output };

/// A program we started, its standard output in our hands. Ended with us.
/// @context control thread; calls wait, each with a deadline
class child_process {
 public:
  /// @param arguments  program (searched in PATH and the sbin folders) and its words
  /// @error os
  [[nodiscard]] static outcome<child_process> start(const std::vector<std::string>& arguments,
                                                    complaints where = complaints::to_ours);

  child_process(child_process&&) noexcept;
  child_process& operator=(child_process&&) = delete;
  child_process(const child_process&) = delete;
  child_process& operator=(const child_process&) = delete;
  ~child_process();  // kills and reaps what still runs

  /// The first line of output that begins with `prefix`.
  /// @error timed_out, device_gone (the program ended without it)
  [[nodiscard]] outcome<std::string> wait_for_line(const std::string& prefix,
                                                   std::chrono::milliseconds deadline);

  /// The first line of output that has `words` in it. @error as above
  [[nodiscard]] outcome<std::string> wait_for_line_with(const std::string& words,
                                                        std::chrono::milliseconds deadline);

  /// For /proc; it stays this program's until the end has been waited for.
  [[nodiscard]] pid_t id() const noexcept { return pid_; }

  /// Halts the program where it is, or lets it go on: SIGSTOP and SIGCONT.
  void halt() const noexcept;
  void go_on() const noexcept;

  /// Asks the program to end (SIGTERM) and waits. @return its exit status @error timed_out
  [[nodiscard]] outcome<int> stop(std::chrono::milliseconds deadline);

  /// Reads the rest of its output, then waits for its end. @return its exit status
  [[nodiscard]] outcome<int> finish(std::string& output, std::chrono::milliseconds deadline);

 private:
  child_process(pid_t pid, unique_fd output, std::string name)
      : pid_{pid}, output_{std::move(output)}, name_{std::move(name)} {}

  template <class Wanted>
  [[nodiscard]] outcome<std::string> wait_for_line_that(Wanted is_wanted,
                                                        std::chrono::milliseconds deadline);
  [[nodiscard]] outcome<> read_more(std::chrono::steady_clock::time_point until);
  [[nodiscard]] outcome<int> reap(std::chrono::steady_clock::time_point until);

  pid_t pid_ = -1;
  unique_fd output_;
  std::string name_;
  std::string unread_;
  bool at_end_ = false;
};

/// Runs a tool to its end. @return what it printed @error bad_status with the tool's output as hint
[[nodiscard]] outcome<std::string> run_tool(const std::vector<std::string>& arguments);

}  // namespace runnel::process
