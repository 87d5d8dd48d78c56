#include "apps/target/io_crew.h"

#include <algorithm>

#include "apps/target/error_log.h"
#include "mempool/base/check.h"

namespace runnel::target {

io_crew::io_crew(const io_parts& own, const io_limits& limits, std::span<io_core* const> others,
                 const guest_memory* memory)
    : own_{own, limits}, errors_{*own.errors}, others_{others} {
  CHECK(own.queues->core_count() == 1 + others.size());
  for (std::size_t i = 0; i < others.size(); ++i) {
    others[i]->move_in({.queues = own.queues, .core = own.core + 1 + i, .memory = memory}, limits);
  }
}

io_crew::~io_crew() {
  CHECK(still_);
  for (io_core* const core : others_) {
    core->move_out();
  }
}

bool io_crew::stand_still() noexcept {
  if (!still_ && !asked_) {
    asked_ = true;
    for (io_core* const core : others_) {
      core->ask();
    }
  }
  return still_;
}

bool io_crew::end_turn(bool fetching) noexcept {
  if (alone()) {
    return false;
  }
  if (still_) {
    const bool at_rest = !fetching && all_quiet();
    if (!at_rest) {
      still_ = false;
      fetching_ = fetching;
      for (io_core* const core : others_) {
        core->let_go(fetching);
      }
    }
    return false;
  }
  if (fetching != fetching_) {
    static_cast<void>(stand_still());  // to be told
  }
  if (!asked_) {
    return false;
  }
  if (std::ranges::all_of(others_, [](const io_core* core) { return core->stands_still(); })) {
    asked_ = false;
    still_ = true;
    for (io_core* const core : others_) {
      move_errors(core->errors(), errors_);
    }
  }
  return true;
}

bool io_crew::all_quiet() const noexcept {
  return own_.quiet() &&
         std::ranges::all_of(others_, [](const io_core* core) { return core->path().quiet(); });
}

bool io_crew::quiet() noexcept {
  return own_.quiet() && stand_still() && all_quiet();
}

void io_crew::forget_memory() noexcept {
  CHECK(still_);
  own_.forget_memory();
  for (io_core* const core : others_) {
    core->path().forget_memory();
  }
}

bool io_crew::memory_forgotten() noexcept {
  return own_.memory_forgotten() && stand_still() &&
         std::ranges::all_of(others_,
                             [](const io_core* core) { return core->path().memory_forgotten(); });
}

void io_crew::set_write_through(bool on) noexcept {
  CHECK(still_);
  own_.set_write_through(on);
  for (io_core* const core : others_) {
    core->path().set_write_through(on);
  }
}

void io_crew::wake() noexcept {
  for (io_core* const core : others_) {
    core->wake();
  }
}

bool io_crew::take_interrupts(interrupt_sink& to) noexcept {
  bool any = false;
  for (io_core* const core : others_) {
    any |= core->take_interrupts(to);
  }
  return any;
}

std::uint64_t io_crew::wrong_doorbells() const noexcept {
  std::uint64_t sum = own_.counters().wrong_doorbells;
  for (const io_core* const core : others_) {
    sum += core->wrong_doorbells();
  }
  return sum;
}

io_counters io_crew::counters() const noexcept {
  CHECK(still_);
  io_counters sum = own_.counters();
  for (const io_core* const core : others_) {
    sum += core->path().counters();
  }
  return sum;
}

}  // namespace runnel::target
