#include "apps/target/cache_flush.h"

#include <algorithm>
#include <array>

namespace runnel::target {

void cache_flush::start() noexcept {
  std::ranges::fill(stages_, stage::to_submit);
}

bool cache_flush::done() const noexcept {
  return std::ranges::all_of(stages_, [](stage at) { return at == stage::ended; });
}

bool cache_flush::advance() noexcept {
  for (std::size_t i = 0; i < stages_.size(); ++i) {
    if (stages_[i] == stage::to_submit) {
      stages_[i] = submit(*paths_[i].queue);
    } else if (stages_[i] == stage::in_flight) {
      stages_[i] = poll(*paths_[i].queue);
    }
    paths_[i].flushing = stages_[i] == stage::in_flight;
  }
  return done();
}

cache_flush::stage cache_flush::submit(block_queue& queue) noexcept {
  std::array<block_request, 1> request{};
  request[0].op = block_op::flush;
  queue.submit(request);
  switch (request[0].state) {
    case block_state::refused:
      return stage::to_submit;
    case block_state::pending:
      queue.flush();
      return stage::in_flight;
    case block_state::done:
      note(request[0].status);
      return stage::ended;
  }
  return stage::ended;
}

cache_flush::stage cache_flush::poll(block_queue& queue) noexcept {
  std::array<block_completion, 1> finished;
  if (queue.poll(finished) == 0) {
    return stage::in_flight;
  }
  note(finished[0].status);
  return stage::ended;
}

}  // namespace runnel::target
