#include "apps/target/events.h"

#include <algorithm>
#include <bit>
#include <span>

#include "drivers/nvme/spec_logs.h"
#include "mempool/base/check.h"

namespace runnel::target {
namespace {

using nvme::event_type;
using nvme::log_page;

constexpr std::uint32_t bit(event_type what) noexcept {
  return 1U << static_cast<unsigned>(what);
}

constexpr log_page log_of(event_type what) noexcept {
  switch (what) {
    case event_type::health:
      return log_page::health_information;
    case event_type::notice:
      return log_page::changed_namespaces;
    case event_type::error:
    case event_type::command_set:
      break;
  }
  return log_page::error_information;
}

}  // namespace

void event_board::report(event_type what, std::uint8_t information) noexcept {
  const auto index = static_cast<std::size_t>(what);
  CHECK(index < state_.information.size());
  if ((state_.masked & bit(what)) == 0) {
    state_.pending |= bit(what);
    state_.information[index] = information;
  }
}

void event_board::log_was_read(event_type what) noexcept {
  state_.masked &= ~bit(what);
}

bool event_board::hold(std::uint16_t command_id) noexcept {
  if (state_.requests == event_requests_max) {
    return false;
  }
  state_.request_ids[state_.requests++] = command_id;
  return true;
}

bool event_board::drop(std::uint16_t command_id) noexcept {
  const auto held = std::span{state_.request_ids}.first(state_.requests);
  const auto found = std::ranges::find(held, command_id);
  if (found == held.end()) {
    return false;
  }
  *found = held.back();
  --state_.requests;
  return true;
}

event_board::notification event_board::take() noexcept {
  CHECK(due());
  const auto index = static_cast<std::size_t>(std::countr_zero(state_.pending));
  const auto what = static_cast<event_type>(index);
  state_.pending &= ~bit(what);
  state_.masked |= bit(what);
  return {.command_id = state_.request_ids[--state_.requests],
          .answer = nvme::event_answer(what, state_.information[index], log_of(what))};
}

}  // namespace runnel::target
