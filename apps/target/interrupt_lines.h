#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "mempool/base/unique_fd.h"

namespace runnel::target {

/// Who tells the host that a completion queue has news.
class interrupt_sink {
 public:
  virtual ~interrupt_sink() = default;
  virtual void raise(std::uint16_t vector) noexcept = 0;
  /// What `controller::pin_asserted` could not say is known now, for the rest of this turn.
  virtual void look_at_pin() noexcept = 0;
};

/// The eventfds of one interrupt, and what could not be delivered yet: a vector that is raised
/// while masked or without an eventfd stays pending until it can be told.
/// @context one core; raising costs a system call
class interrupt_lines {
 public:
  explicit interrupt_lines(std::size_t vectors);

  /// Gives vectors start.. their eventfds; an invalid descriptor detaches. They become non-blocking
  /// for every holder, for kernels where telling them is a write.
  /// @pre   start + eventfds.size() <= size()
  /// @return false when one is no eventfd (writing to a closed pipe or socket would raise SIGPIPE);
  ///         nothing was assigned
  [[nodiscard]] bool assign(std::size_t start, std::span<unique_fd> eventfds) noexcept;
  /// No eventfds at all; nothing stays pending.
  void clear() noexcept;

  void raise(std::size_t vector) noexcept;
  /// Tells the eventfds of vectors start.. though they be masked; nothing becomes pending.
  /// @pre    start + count <= size()
  /// @return false when no vector at all has an eventfd
  [[nodiscard]] bool try_out(std::size_t start, std::size_t count) const noexcept;
  /// While masked nothing is told. Unmasking tells what is pending.
  void mask(bool masked) noexcept;

  [[nodiscard]] std::size_t size() const noexcept { return vectors_.size(); }
  [[nodiscard]] bool has_eventfd(std::size_t vector) const noexcept {
    return static_cast<bool>(vectors_[vector].eventfd);
  }
  [[nodiscard]] bool pending(std::size_t vector) const noexcept { return vectors_[vector].pending; }

 private:
  struct line {
    unique_fd eventfd;
    bool pending = false;
  };
  void deliver(line& which) noexcept;

  std::vector<line> vectors_;
  bool masked_ = false;
};

}  // namespace runnel::target
