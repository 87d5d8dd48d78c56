#include "drivers/vfio/operation_table.h"

#include <algorithm>
#include <cstring>

#include "mempool/base/check.h"

namespace runnel::vfio {
namespace {

static_assert(operation_table::capacity == 64);
constexpr std::uint32_t place_bits = 6;
constexpr std::uint32_t place_mask = operation_table::capacity - 1;
constexpr std::uint32_t generation_max = (std::uint32_t{1} << (32 - place_bits)) - 1;

}  // namespace

operation_table::operation_table()
    : data_{std::make_unique_for_overwrite<std::byte[]>(capacity * data_bytes_max)} {}

operation_table::operation* operation_table::start(std::uint16_t command, std::uint32_t reply_bytes,
                                                   std::uint16_t replies) noexcept {
  CHECK(replies > 0);
  const auto free = std::ranges::find_if(places_, [](const place& candidate) {
    return candidate.outcome == outcome_state::delivered && candidate.replies_due == 0;
  });
  if (free == places_.end()) {
    return nullptr;
  }
  generation_ = generation_ == generation_max ? 1 : generation_ + 1;
  const auto index = static_cast<std::uint32_t>(free - places_.begin());
  *free = place{};
  free->id = ticket{generation_ << place_bits | index};
  free->command = command;
  free->replies_due = replies;
  free->reply_bytes = reply_bytes;
  free->outcome = outcome_state::awaited;
  return &*free;
}

void operation_table::withdraw(operation& which) noexcept {
  auto& withdrawn = static_cast<place&>(which);
  withdrawn.outcome = outcome_state::delivered;
  withdrawn.replies_due = 0;
}

operation_table::operation* operation_table::waiting_for(std::uint16_t message_id) noexcept {
  place& candidate = places_[message_id & place_mask];
  const bool waits =
      candidate.replies_due > 0 && operation_table::message_id(candidate.id) == message_id;
  return waits ? &candidate : nullptr;
}

void operation_table::reply(operation& which, error status,
                            std::span<const std::byte> data) noexcept {
  auto& answered = static_cast<place&>(which);
  CHECK(answered.replies_due > 0);
  CHECK(data.size() <= data_bytes_max);
  --answered.replies_due;
  if (answered.outcome != outcome_state::awaited) {
    return;  // too late, or nobody cares: the reply only frees the id
  }
  if (answered.status.code == errc::ok) {
    answered.status = status;
  }
  std::ranges::copy(data, data_of(answered).begin());
  answered.data_bytes = static_cast<std::uint32_t>(data.size());
  if (answered.replies_due == 0) {
    answered.outcome = outcome_state::ready;
  }
}

void operation_table::end_all(error status) noexcept {
  for (place& each : places_) {
    each.replies_due = 0;
    if (each.outcome == outcome_state::awaited) {
      each.status = status;
      each.outcome = outcome_state::ready;
    }
  }
}

instant operation_table::apply_deadlines(instant now, nanoseconds timeout) noexcept {
  instant next = never;
  for (place& each : places_) {
    if (each.outcome != outcome_state::awaited) {
      continue;
    }
    if (each.deadline == never) {
      each.deadline = now + timeout;
    }
    if (each.deadline <= now) {
      each.status = error{errc::timed_out};
      each.outcome = outcome_state::ready;
    } else {
      next = std::min(next, each.deadline);
    }
  }
  return next;
}

std::optional<transport_reply> operation_table::take(ticket which) noexcept {
  place& taken = owned(which);
  if (taken.outcome == outcome_state::awaited) {
    return std::nullopt;
  }
  taken.outcome = outcome_state::delivered;
  transport_reply reply;
  reply.status = taken.status;
  if (taken.status.code == errc::ok) {
    reply.data = data_of(taken).first(taken.data_bytes);
    std::memcpy(&reply.value, reply.data.data(), std::min(reply.data.size(), sizeof(reply.value)));
  }
  return reply;
}

void operation_table::abandon(ticket which) noexcept {
  owned(which).outcome = outcome_state::delivered;
}

operation_table::place& operation_table::owned(ticket which) noexcept {
  place& found = places_[static_cast<std::uint32_t>(which) & place_mask];
  CHECK(found.id == which);
  CHECK(found.outcome != outcome_state::delivered);
  return found;
}

std::span<std::byte> operation_table::data_of(const place& which) const noexcept {
  const auto index = static_cast<std::size_t>(&which - places_.data());
  return {&data_[index * data_bytes_max], data_bytes_max};
}

}  // namespace runnel::vfio
