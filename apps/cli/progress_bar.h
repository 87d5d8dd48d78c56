#pragma once

#include <cstdint>

#include "mempool/base/clock.h"

namespace runnel::cli {

/// A line on stderr that shows how far long work is; silent when stderr is no terminal, so logs and
/// scripts see nothing of it.
class progress_bar {
 public:
  progress_bar() noexcept;
  ~progress_bar();  // clears the line
  progress_bar(const progress_bar&) = delete;
  progress_bar& operator=(const progress_bar&) = delete;

  /// @param total  bytes; 0: unknown. Drawn at most ten times a second
  void show(std::uint64_t done, std::uint64_t total);

 private:
  bool on_terminal_;
  bool drawn_ = false;
  tsc_clock clock_;
  instant next_{};
};

}  // namespace runnel::cli
