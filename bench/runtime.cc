// Claim: what the runtime itself takes is small beside an I/O: a turn of a core that found nothing,
// a task, a timer; and a message between two cores takes little more than a cache line does.
// Method: each on an engine of its own, so that no other thread of ours runs meanwhile. The
// cache-line ping-pong is measured in the same round.

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "bench/bench.h"
#include "bench/contest.h"
#include "bench/need.h"
#include "bench/slices.h"
#include "drivers/mmio.h"
#include "mempool/base/check.h"
#include "runtime/engine.h"
#include "runtime/gate.h"
#include "runtime/mailbox.h"
#include "runtime/reactor.h"
#include "runtime/task.h"

namespace runnel::bench {
namespace {

constexpr std::size_t idle_pollers = 8;
constexpr std::uint32_t spawned_together = 32;
constexpr std::uint32_t per_slice = 4096;

double ns_of(double cycles) {
  return cycles * 1e9 / static_cast<double>(tsc_hz());
}

/// A device queue on which nothing comes: a word to look at.
struct alignas(cache_line_bytes) idle_queue {
  std::uint32_t completions = 0;

  static std::uint32_t poll(void* self) noexcept {
    return read_once(static_cast<idle_queue*>(self)->completions);
  }
};

/// The last of the pollers counts turns.
struct turn_count {
  idle_queue queue;
  slices turns;
  event over;
  bool counting = true;

  static std::uint32_t poll(void* self) noexcept {
    auto& me = *static_cast<turn_count*>(self);
    if (me.counting && !me.turns.go_on()) {
      me.counting = false;
      me.over.set();
    }
    return idle_queue::poll(&me.queue);
  }
};

task<double> empty_turn(reactor& core, double seconds) {
  std::array<idle_queue, idle_pollers - 1> queues;
  for (idle_queue& each : queues) {
    core.add_source({.poll = idle_queue::poll, .context = &each, .name = "idle"});
  }
  turn_count count{.queue = {}, .turns = {seconds, per_slice}, .over = event{core}};
  core.add_source({.poll = turn_count::poll, .context = &count, .name = "count"});
  CHECK((co_await count.over.wait(never)).has_value());
  core.remove_source(&count);
  for (const idle_queue& each : queues) {
    core.remove_source(&each);
  }
  co_return count.turns.cycles();
}

/// Other timers are armed as on a busy core, and deadlines are near and far.
task<double> timer_set_and_cancelled(reactor& core, double seconds) {
  constexpr std::size_t others = 64;
  constexpr nanoseconds step{77'777};
  const auto nothing = [](timer&) noexcept {};
  const auto timers = std::make_unique<std::array<std::optional<timer>, others>>();
  const instant later = core.now() + std::chrono::seconds{60};
  for (std::size_t i = 0; i < others; ++i) {
    core.set_timer((*timers)[i].emplace(nothing), later + step * static_cast<std::int64_t>(i));
  }
  timer one{nothing};
  slices rounds{seconds, per_slice};
  std::int64_t distance = 0;
  do {
    distance = (distance + 1) % 4096;
    core.set_timer(one, core.now() + step * (distance + 1));
    core.cancel_timer(one);
  } while (rounds.go_on());
  for (auto& each : *timers) {
    core.cancel_timer(*each);
  }
  co_return rounds.cycles();
}

task<std::uint64_t> next_number(std::uint64_t from) {
  co_return from * 5 + 1;
}

task<double> task_awaited(reactor& core, double seconds) {
  slices calls{seconds, per_slice};
  std::uint64_t number = 0;
  do {
    number = co_await next_number(number);
  } while (calls.go_on());
  CHECK(number != 0);
  (void)co_await core.yield();
  co_return calls.cycles();
}

task<> count_one(std::uint64_t& ended) {
  ++ended;
  co_return;
}

task<double> task_spawned(reactor& core, double seconds) {
  gate tasks{core};
  std::uint64_t ended = 0;
  std::uint64_t spawned = 0;
  slices bursts{seconds, per_slice / spawned_together};
  do {
    for (std::uint32_t i = 0; i < spawned_together; ++i) {
      tasks.spawn(count_one(ended));
    }
    spawned += spawned_together;
    (void)co_await core.yield();
  } while (bursts.go_on());
  co_await tasks.close();
  CHECK(ended == spawned);
  co_return bursts.cycles() / spawned_together;
}

/// One message that goes there and back until the time is over. What home writes is in a cache line
/// of its own, which a coroutine's frame has not: it shall not travel, too.
struct ball {
  mailbox& home;
  mailbox& away;
  alignas(cache_line_bytes) slices laps;
  event over;

  void throw_away() noexcept {
    CHECK(home.try_send(away, message{[this]() noexcept { throw_back(); }}));
  }
  void throw_back() noexcept {
    CHECK(away.try_send(home,
                        message{[this]() noexcept { laps.go_on() ? throw_away() : over.set(); }}));
  }
};

task<double> message_and_back(reactor& core, reactor& there, double seconds) {
  const std::unique_ptr<ball> thrown{
      new ball{*core.mail(), *there.mail(), {seconds, per_slice / 4}, event{core}}};
  thrown->throw_away();
  CHECK((co_await thrown->over.wait(never)).has_value());
  co_return thrown->laps.cycles();
}

/// Where it is awaited.
task<std::uint64_t> value_of(const std::uint64_t& counted) {
  co_return counted;
}

task<double> messages_one_way(reactor& core, reactor& there, double seconds) {
  constexpr std::uint32_t together = 32;
  struct alignas(cache_line_bytes) counter {
    std::uint64_t value = 0;
  };
  const auto received = std::make_unique<counter>();
  std::uint64_t sent = 0;
  const message one{[count = received.get()]() noexcept { ++count->value; }};
  slices bursts{seconds, per_slice / together};
  do {
    for (std::uint32_t i = 0; i < together; ++i) {
      co_await core.mail()->send(*there.mail(), one);
    }
    sent += together;
    (void)co_await core.yield();
  } while (bursts.go_on());
  const auto count = [&received](reactor&) { return value_of(received->value); };
  const std::uint64_t arrived = co_await on(there, count);
  CHECK(arrived == sent);
  co_return bursts.cycles() / together;
}

std::unique_ptr<engine> engine_on(std::vector<core_id> cores) {
  return need(engine::create(
      {.name = "bench", .cores = std::move(cores), .window_bytes = 2 * mib, .huge_pages = false}));
}

using on_one = task<double> (*)(reactor&, double);
using on_two = task<double> (*)(reactor&, reactor&, double);
using two = std::pair<unsigned, unsigned>;

std::function<double(double)> on_one_core(const two& cores, on_one measure) {
  return [=](double seconds) {
    return ns_of(engine_on({core_id{cores.first}})->run(0, [=](reactor& here) -> task<double> {
      return measure(here, seconds);
    }));
  };
}

double on_two_cores(const two& cores, double seconds, on_two measure) {
  const auto both = engine_on({core_id{cores.first}, core_id{cores.second}});
  reactor& there = both->core(1);
  return both->run(
      0, [=, &there](reactor& here) -> task<double> { return measure(here, there, seconds); });
}

contest local_costs(const two& cores) {
  return {
      .unit = "ns",
      .ours = {{.name = "a turn with 8 idle pollers",
                .cost = on_one_core(cores, empty_turn),
                .owed_max = 25},
               {.name = "a timer set and cancelled",
                .cost = on_one_core(cores, timer_set_and_cancelled),
                .owed_max = 30},
               {.name = "a task awaited, ready at once", .cost = on_one_core(cores, task_awaited)},
               {.name = "a task spawned, run and ended", .cost = on_one_core(cores, task_spawned)},
               {.name = "a message one way, 32 a turn", .cost = [cores](double seconds) {
                  return ns_of(on_two_cores(cores, seconds, messages_one_way));
                }}}};
}

contest there_and_back(const two& cores) {
  const auto message = [cores](double seconds) {
    return on_two_cores(cores, seconds, message_and_back);
  };
  const auto line = [cores](double) { return ping_pong_cycles(cores); };
  return {.unit = "cycles",
          .ours = {{.name = "a message there and back", .cost = message, .owed_ratio_max = 1.3}},
          .peers = {{.name = "a cache line", .cost = line}}};
}

}  // namespace
}  // namespace runnel::bench

int main(int argc, char** argv) {
  using namespace runnel::bench;
  const two cores = two_cores();
  const std::array contests{local_costs(cores), there_and_back(cores)};
  return run_contests({.title = "the runtime itself", .contests = contests, .cores = cores},
                      {argc, argv});
}
