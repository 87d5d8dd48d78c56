#pragma once

#include <cstdint>

#include "mempool/base/clock.h"

namespace runnel::cli {

/// What is counted, and how it is shown.
struct progress_unit {
  const char* name;
  std::uint64_t scale;  // counts of one shown unit
};

/// A line on stderr that shows how far long work is; silent when stderr is no terminal, so logs and
/// scripts see nothing of it.
class progress_bar {
 public:
  explicit progress_bar(const progress_unit& unit) noexcept;
  ~progress_bar();  // clears the line
  progress_bar(const progress_bar&) = delete;
  progress_bar& operator=(const progress_bar&) = delete;

  /// Whether anybody sees it; if not, work need not stop to tell how far it is.
  [[nodiscard]] bool visible() const noexcept { return on_terminal_; }

  /// @param total  0: unknown. Drawn at most ten times a second
  void show(std::uint64_t done, std::uint64_t total);

 private:
  progress_unit unit_;
  bool on_terminal_;
  bool drawn_ = false;
  tsc_clock clock_;
  instant next_{};
};

}  // namespace runnel::cli
