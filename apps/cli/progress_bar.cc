#include "apps/cli/progress_bar.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <string>

namespace runnel::cli {

progress_bar::progress_bar(const progress_unit& unit) noexcept
    : unit_{unit}, on_terminal_{isatty(STDERR_FILENO) == 1} {}

progress_bar::~progress_bar() {
  if (drawn_) {
    fmt::print(stderr, "\r\x1b[K");
  }
}

void progress_bar::show(std::uint64_t done, std::uint64_t total) {
  constexpr nanoseconds period{100'000'000};
  constexpr std::uint64_t width = 40;
  const instant now = clock_.now();
  if (!on_terminal_ || now < next_) {
    return;
  }
  next_ = now + period;
  drawn_ = true;
  if (total == 0) {
    fmt::print(stderr, "\r\x1b[K{} {}", done / unit_.scale, unit_.name);
    return;
  }
  const std::uint64_t filled = width * std::min(done, total) / total;
  fmt::print(stderr, "\r\x1b[K[{}{}] {} of {} {}", std::string(filled, '='),
             std::string(width - filled, ' '), done / unit_.scale, total / unit_.scale, unit_.name);
}

}  // namespace runnel::cli
