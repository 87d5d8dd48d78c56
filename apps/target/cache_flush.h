#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "apps/target/io_shared.h"

namespace runnel::target {

/// Makes everything that was written durable: one flush on every namespace.
/// @context one core; nothing else is in flight on these paths meanwhile
class cache_flush {
 public:
  explicit cache_flush(std::span<namespace_path> paths)
      : paths_{paths}, stages_(paths.size(), stage::ended) {}

  void start() noexcept;
  /// Goes on. @return true when every device has answered
  bool advance() noexcept;
  [[nodiscard]] bool done() const noexcept;
  /// Namespaces that could not do it, since the beginning.
  [[nodiscard]] std::uint64_t failures() const noexcept { return failures_; }

 private:
  enum class stage : std::uint8_t { to_submit, in_flight, ended };
  [[nodiscard]] stage submit(block_queue& queue) noexcept;
  [[nodiscard]] stage poll(block_queue& queue) noexcept;
  void note(block_status status) noexcept {
    failures_ += status == block_status::success ? 0U : 1U;
  }

  std::span<namespace_path> paths_;
  std::vector<stage> stages_;
  std::uint64_t failures_ = 0;
};

}  // namespace runnel::target
