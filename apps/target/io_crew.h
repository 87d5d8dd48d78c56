#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "apps/target/controller_state.h"
#include "apps/target/guest_memory.h"
#include "apps/target/interrupt_lines.h"
#include "apps/target/io_core.h"
#include "apps/target/io_path.h"

namespace runnel::target {

/// All cores of one controller: its own, whose data path is here, and those that help it.
///
/// Whoever wants to change what all of them use calls `stand_still` every turn until that is true,
/// and has changed it when the turn ends, for then they go on. A controller that is alone always
/// stands still.
///
/// @context the controller's core
class io_crew {
 public:
  /// @param own     of the controller's core
  /// @param others  they stand still, and have no controller
  /// @param memory  the host's, for the others: it changes only while they stand still
  io_crew(const io_parts& own, const io_limits& limits, std::span<io_core* const> others,
          const guest_memory* memory);
  io_crew(const io_crew&) = delete;
  io_crew& operator=(const io_crew&) = delete;
  ~io_crew();  // they stand still, and are quiet

  [[nodiscard]] io_path& own() noexcept { return own_; }
  [[nodiscard]] const io_path& own() const noexcept { return own_; }
  [[nodiscard]] bool alone() const noexcept { return others_.empty(); }

  [[nodiscard]] bool still() const noexcept { return still_; }
  [[nodiscard]] bool stand_still() noexcept;
  /// The end of the controller's turn: who stood still goes on, unless there is nothing to do.
  /// @param fetching  what all are to do from here on
  /// @return whether the others owe an answer or have just given it
  [[nodiscard]] bool end_turn(bool fetching) noexcept;

  /// No command is in flight. Stops the others to see, and is false until they stand still.
  [[nodiscard]] bool quiet() noexcept;
  /// See `io_path`. @pre still()
  void forget_memory() noexcept;
  /// The same as `quiet`, for commands from before `forget_memory`.
  [[nodiscard]] bool memory_forgotten() noexcept;
  /// @pre still()
  void set_write_through(bool on) noexcept;

  /// Before the controller's core sleeps; the others go on or sleep by themselves. False: they owe
  /// an answer, or see `io_path`.
  [[nodiscard]] bool arm() noexcept { return !asked_ && own_.arm(); }
  void disarm() noexcept { own_.disarm(); }
  /// A doorbell was rung: who serves its queue may sleep.
  void wake() noexcept;

  /// Passes the others' interrupts on. @return whether there were any
  bool take_interrupts(interrupt_sink& to) noexcept;
  [[nodiscard]] std::uint64_t wrong_doorbells() const noexcept;
  /// Of this controller. @pre still()
  [[nodiscard]] io_counters counters() const noexcept;

 private:
  [[nodiscard]] bool all_quiet() const noexcept;

  io_path own_;
  error_state& errors_;
  std::span<io_core* const> others_;
  bool still_ = true;
  bool asked_ = false;
  bool fetching_ = false;  // what the others were told
};

}  // namespace runnel::target
