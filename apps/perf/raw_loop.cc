#include "apps/perf/raw_loop.h"

#include <algorithm>

#include "mempool/base/check.h"

namespace runnel::perf {

raw_loop::raw_loop(session& work, block_queue& queue, const segment& memory, std::uint32_t depth,
                   reactor& core)
    : work_{work}, queue_{queue}, slots_(depth), ended_{core} {
  const std::size_t io_bytes = memory.length / depth;
  free_.reserve(depth);
  planned_.reserve(depth);
  for (std::uint32_t i = 0; i < depth; ++i) {
    slots_[i].data = {
        .address = memory.address + i * io_bytes, .length = io_bytes, .memory = memory.memory};
    free_.push_back(i);
  }
}

source raw_loop::as_source() noexcept {
  return {.poll = [](void* self) noexcept { return static_cast<raw_loop*>(self)->poll(); },
          .context = this,
          .name = "perf raw loop"};
}

std::uint32_t raw_loop::poll() noexcept {
  const std::size_t count = queue_.poll(completions_);
  if (count != 0 || work_.is_paced()) {
    work_.stamp();
  }
  for (const block_completion& one : std::span{completions_}.first(count)) {
    finish(static_cast<std::uint32_t>(one.tag), one.status);
  }
  const std::uint32_t started = start_more();
  if (started != 0) {
    queue_.flush();
  }
  if (work_.finished() && free_.size() + planned_.size() == slots_.size()) {
    for (; !planned_.empty(); planned_.pop_back()) {  // never started: not part of the measurement
      work_.withdraw(slots_[planned_.back()].io);
      free_.push_back(planned_.back());
    }
    ended_.set();
  }
  return static_cast<std::uint32_t>(count) + started;
}

/// One burst of requests, whose number is the slot's. @return how many were started
std::uint32_t raw_loop::start_more() noexcept {
  std::size_t count = 0;
  while (count < burst && prepare(requests_[count])) {
    ++count;
  }
  if (count != 0) {
    submit(std::span{requests_}.first(count));
  }
  return static_cast<std::uint32_t>(count);
}

/// The next I/O as a request; false when there is none, or when its time has not come.
bool raw_loop::prepare(block_request& request) noexcept {
  if (planned_.empty()) {
    if (free_.empty()) {
      return false;
    }
    slot& next = slots_[free_.back()];
    if (!work_.plan(next.io, {next.data.address, next.data.length})) {
      return false;
    }
    planned_.push_back(free_.back());
    free_.pop_back();
  }
  const std::uint32_t index = planned_.back();
  slot& next = slots_[index];
  if (work_.finished() || next.io.intended > work_.turn()) {
    return false;
  }
  planned_.pop_back();
  next.started = work_.start(next.io);
  request = {.tag = index,
             .segments = &next.data,
             .segment_count = 1,
             .blocks = work_.blocks_per_slot(),
             .first = work_.block_of(next.io),
             .op = next.io.is_write ? block_op::write : block_op::read};
  return true;
}

void raw_loop::submit(std::span<block_request> requests) noexcept {
  queue_.submit(requests);
  // Backwards, so that the first refused one is the next to be started again.
  for (std::size_t i = requests.size(); i-- > 0;) {
    const auto index = static_cast<std::uint32_t>(requests[i].tag);
    if (requests[i].state == block_state::refused) {
      planned_.push_back(index);
    } else if (requests[i].state == block_state::done) {
      finish(index, requests[i].status);
    }
  }
}

void raw_loop::finish(std::uint32_t index, block_status status) noexcept {
  CHECK(index < slots_.size());
  const slot& ended = slots_[index];
  result<> outcome;
  if (status == block_status::device_gone) {
    outcome = fail(errc::device_gone);
  } else if (status != block_status::success) {
    outcome = fail(errc::bad_status, static_cast<std::uint32_t>(status));
  }
  work_.finish(ended.io, ended.started, outcome, {ended.data.address, ended.data.length});
  free_.push_back(index);
}

}  // namespace runnel::perf
