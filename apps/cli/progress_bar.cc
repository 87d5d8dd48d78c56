#include "apps/cli/progress_bar.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <string>

#include "mempool/base/units.h"

namespace runnel::cli {

progress_bar::progress_bar() noexcept : on_terminal_{isatty(STDERR_FILENO) == 1} {}

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
    fmt::print(stderr, "\r\x1b[K{} MiB", done / mib);
    return;
  }
  const std::uint64_t filled = width * done / total;
  fmt::print(stderr, "\r\x1b[K[{}{}] {} of {} MiB", std::string(filled, '='),
             std::string(width - filled, ' '), done / mib, total / mib);
}

}  // namespace runnel::cli
