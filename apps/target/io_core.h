#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "apps/target/controller_state.h"
#include "apps/target/device_watch.h"
#include "apps/target/interrupt_lines.h"
#include "apps/target/io_path.h"
#include "apps/target/io_shared.h"
#include "apps/target/queue_table.h"
#include "mempool/base/bits.h"
#include "runtime/reactor.h"

namespace runnel::target {

/// A core besides the controller's own that serves some of its I/O queues. It is there for as long
/// as it is polled; controllers move in and out.
///
/// What it works on (queues, memory, paths) is changed by the controller's core, and only while
/// this one stands still: it is asked to, says at its next poll that it does, and then touches
/// nothing until it is let go. So nothing of the data path is shared, and what a core costs when
/// nobody asks is one load a turn of a line that nobody writes.
class io_core {
 public:
  /// @param paths             towards the namespaces, for this core alone
  /// @param tells_of_doorbells  the controller calls `wake` when one is rung
  explicit io_core(std::vector<namespace_path> paths, bool tells_of_doorbells = true)
      : paths_{std::move(paths)}, watch_{paths_}, tells_of_doorbells_{tells_of_doorbells} {}
  io_core(const io_core&) = delete;
  io_core& operator=(const io_core&) = delete;
  ~io_core();  // no controller, and polled no more

  // This core.

  /// It is polled by `here` from now on. @param home  the controller's @context the port is not
  /// attached
  void attach(reactor& here, reactor& home) noexcept;
  void detach() noexcept;
  /// One turn. @return how much was found to do
  std::uint32_t poll(instant now) noexcept;
  /// See `source`.
  [[nodiscard]] bool arm() noexcept;
  void disarm() noexcept;

  // From here on: the controller's core.

  /// There may be something to do.
  void wake() noexcept;
  /// Asks it to stand still. @pre it was let go
  void ask() noexcept;
  /// Whether it does. What it did before is visible then.
  [[nodiscard]] bool stands_still() const noexcept {
    return stage_.load(std::memory_order_acquire) == stage::still;  // pairs with `poll`
  }
  /// @pre it stands still
  void let_go(bool fetching) noexcept;

  /// Tells `to` what its queues interrupt for. @return whether there was anything
  bool take_interrupts(interrupt_sink& to) noexcept;
  /// So often did hosts break a rule of its doorbells, the present controller's.
  [[nodiscard]] std::uint64_t wrong_doorbells() const noexcept {
    return wrong_doorbells_.load(std::memory_order_relaxed);
  }

  // And it stands still.

  /// A controller moves in. @param parts  but paths and errors, which are this core's own
  void move_in(io_parts parts, const io_limits& limits);
  /// @pre path().quiet()
  void move_out() noexcept;
  /// @pre a controller is there
  [[nodiscard]] io_path& path() noexcept { return *path_; }
  [[nodiscard]] const io_path& path() const noexcept { return *path_; }
  /// Commands that failed, since they were last moved away.
  [[nodiscard]] error_state& errors() noexcept { return errors_; }
  /// Over all controllers.
  [[nodiscard]] io_counters counters() const noexcept;

  [[nodiscard]] std::span<namespace_path> paths() noexcept { return paths_; }

 private:
  enum class stage : std::uint8_t { going, asked, still };
  std::uint32_t serve(instant now) noexcept;
  void interrupt(instant now) noexcept;
  void go(stage to) noexcept;
  void keep_quiet() noexcept;
  void wake_home() noexcept;

  // Written when the controller's core wants something.
  alignas(cache_line_bytes) std::atomic<stage> stage_{stage::still};

  // This core's; the other's while it stands still.
  alignas(cache_line_bytes) std::vector<namespace_path> paths_;
  device_watch watch_;
  const bool tells_of_doorbells_;
  reactor* here_ = nullptr;  // where it is attached; both do not change meanwhile
  reactor* home_ = nullptr;
  bool is_armed_ = false;  // the path is
  std::optional<io_path> path_;
  const core_queues* queues_ = nullptr;
  bool fetching_ = false;
  std::uint64_t wrong_told_ = 0;
  error_state errors_;
  io_counters former_;  // of controllers that moved out

  // What this core tells, and the other one looks at every turn.
  alignas(cache_line_bytes) std::atomic<bool> interrupts_{false};
  std::array<std::atomic<std::uint64_t>, queues_max / 64> vectors_{};  // a bit each
  std::atomic<std::uint64_t> wrong_doorbells_{0};
};

}  // namespace runnel::target
