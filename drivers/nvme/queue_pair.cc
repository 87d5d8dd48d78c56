#include "drivers/nvme/queue_pair.h"

#include <sys/eventfd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <limits>
#include <utility>

#include "drivers/nvme/spec_commands.h"
#include "mempool/base/bits.h"
#include "mempool/base/check.h"
#include "mempool/base/poison.h"

namespace runnel::nvme {
namespace {

// A busy device that polls memory is told of new commands this often: often enough that it always
// has work, rarely enough that we seldom wait for the doorbell's cache line, as it seems our stores
// behind that one do (docs/performance.md).
constexpr std::uint32_t eager_interval = 16;
constexpr std::uint32_t only_at_flush = std::numeric_limits<std::uint32_t>::max();

/// Read and write, which are nearly all there is, run against their opcodes: no branch, no table.
constexpr std::uint64_t transfer_opcode(block_op op) noexcept {
  return static_cast<std::uint64_t>(io_opcode::read) - static_cast<std::uint64_t>(op);
}
static_assert(transfer_opcode(block_op::read) == static_cast<std::uint64_t>(io_opcode::read));
static_assert(transfer_opcode(block_op::write) == static_cast<std::uint64_t>(io_opcode::write));

constexpr std::uint64_t opcode_of(block_op op) noexcept {
  constexpr std::array by_operation{io_opcode::read,         io_opcode::write,
                                    io_opcode::flush,        io_opcode::compare,
                                    io_opcode::write_zeroes, io_opcode::dataset_management,
                                    io_opcode::verify};
  return static_cast<std::uint64_t>(by_operation[static_cast<std::size_t>(op)]);
}
static_assert(opcode_of(block_op::flush) == static_cast<std::uint64_t>(io_opcode::flush));
static_assert(opcode_of(block_op::verify) == static_cast<std::uint64_t>(io_opcode::verify));

}  // namespace

queue_pair::queue_pair(const queue_pair_parts& parts)
    : submission_{parts.submission},
      completion_{parts.completion},
      slots_(parts.commands),
      free_(parts.commands),
      commands_{parts.commands},
      nsid_{parts.nsid},
      block_shift_{static_cast<std::uint32_t>(std::countr_zero(parts.prps.block_bytes))},
      doorbells_{parts.doorbells},
      shows_progress_{parts.shows_progress},
      prps_{parts.prps},
      control_{parts.control},
      depth_{parts.depth},
      transfer_bytes_max_{parts.transfer_bytes_max},
      wake_fd_{parts.wake_fd},
      limits_{parts.limits},
      list_memory_{parts.list_memory},
      list_address_{parts.list_address},
      list_bytes_{prp_list_bytes(parts.prps)} {
  CHECK(control_ != nullptr);
  CHECK(depth_ != 0 && depth_ <= commands_);
  CHECK(commands_ < completion_.size());
  CHECK(limits_.write_zeroes_blocks != 0 && limits_.deallocate_blocks != 0);
  CHECK(limits_.verify_blocks != 0);
  CHECK(prps_.bytes_max >= 2 * host_page_bytes);  // the short way builds two entries unasked
  CHECK(list_memory_.size() >= commands_ * list_bytes_);
  rewind();
  control_->attached.store(true, std::memory_order_relaxed);
}

queue_pair::~queue_pair() {
  control_->attached.store(false, std::memory_order_release);  // pairs with controller's acquire
}

void queue_pair::submit(std::span<block_request> requests) noexcept {
  // pairs with the controller's release: a queue that runs again has its rings in place
  const queue_state state = control_->state.load(std::memory_order_acquire);
  if (state != queue_state::running) [[unlikely]] {
    decline(requests, state);
    return;
  }
  tick_ = control_->ticks.load(std::memory_order_relaxed);
  if (doorbells_ == doorbell_policy::eager) {
    publish_at_ = free_count_ == commands_ ? 1 : eager_interval;
  }
  for (std::size_t i = 0; i < requests.size(); ++i) {
    if (!start(requests[i])) [[unlikely]] {
      decline(requests.subspan(i), queue_state::paused);
      return;
    }
    if (submission_.unpublished() >= publish_at_) {
      submission_.publish();
      publish_at_ = eager_interval;
    }
  }
}

void queue_pair::decline(std::span<block_request> requests, queue_state state) noexcept {
  for (block_request& request : requests) {
    if (state == queue_state::failed || state == queue_state::gone) {
      request.state = block_state::done;
      request.status = block_status::device_gone;
    } else {
      request.state = block_state::refused;
    }
  }
}

/// False: no room. The short way serves what nearly all requests are: one segment within two pages.
[[gnu::always_inline]] inline bool queue_pair::start(block_request& request) noexcept {
  if (free_count_ == 0) [[unlikely]] {
    return false;
  }
  if (request.op > block_op::write || request.segment_count != 1 ||
      request.segments->memory == nullptr) [[unlikely]] {
    return start_other(request);
  }
  const segment& data = *request.segments;
  const std::uint64_t bytes = std::uint64_t{request.blocks} << block_shift_;
  const std::uint64_t address = raw(data.memory->to_iova(data.address));
  const std::uint64_t end = (address & (host_page_bytes - 1)) + bytes;
  if (bytes == 0 || bytes != data.length || end > std::uint64_t{2} * host_page_bytes ||
      !is_aligned(address, prp_alignment)) [[unlikely]] {
    return start_other(request);
  }
  check_not_poisoned({data.address, data.length});
  const std::uint64_t second_page = (address | (host_page_bytes - 1)) + 1;
  const std::uint16_t id = take_slot(request.tag);
  write_command(submission_.slot(), {.opcode = transfer_opcode(request.op), .id = id}, request,
                {.first = address, .second = end > host_page_bytes ? second_page : 0});
  submission_.push();
  request.state = block_state::pending;
  return true;
}

/// Takes a command id for a request of one command. @pre one is free
inline std::uint16_t queue_pair::take_slot(std::uint64_t tag) noexcept {
  const std::uint16_t id = free_[--free_count_];
  slots_[id] = {.tag = tag,
                .parts = 1,
                .parent = 0,
                .status = block_status::success,
                .state = slot_state::in_flight,
                .tick = tick_};
  return id;
}

/// Plain stores, few and wide, into the slot itself. Fields that no command of ours uses stay as
/// zero as the ring's memory came. Opcode, flags, command id and namespace are the first eight
/// bytes, in this order.
inline void queue_pair::write_command(submission_entry& entry, const command_name& name,
                                      const block_request& request,
                                      const prp_pair& prps) const noexcept {
  const std::uint64_t head =
      std::uint64_t{nsid_} << 32U | std::uint64_t{name.id} << 16U | name.opcode;
  std::memcpy(&entry, &head, sizeof head);
  entry.prp1 = prps.first;
  entry.prp2 = prps.second;
  entry.cdw10 = static_cast<std::uint32_t>(raw(request.first));
  entry.cdw11 = static_cast<std::uint32_t>(raw(request.first) >> 32U);
  const bool durable = request.force_unit_access && request.op == block_op::write;
  entry.cdw12 = (request.blocks - 1) | (durable ? io_force_unit_access : 0U);
}

/// The long way: a request of any operation and shape, as one command or several.
bool queue_pair::start_other(block_request& request) noexcept {
  const bool known = limits_.operations.contains(request.op);
  const std::uint32_t parts = known ? describe(request) : 0;
  if (parts > free_count_ && free_count_ < commands_) {
    return false;  // there is room once commands in flight have ended
  }
  if (parts == 0 || parts > free_count_) {
    request.state = block_state::done;
    request.status = known ? block_status::invalid_field : block_status::invalid_opcode;
    return true;
  }
  const std::uint16_t parent = next_id(0);
  for (std::uint32_t i = 0; i < parts; ++i) {
    const std::uint16_t id = free_[--free_count_];
    slots_[id] = {.tag = request.tag,
                  .parts = static_cast<std::uint16_t>(id == parent ? parts : 0),
                  .parent = parent,
                  .status = block_status::success,
                  .state = slot_state::in_flight,
                  .tick = tick_};
  }
  submission_.push(parts);
  request.state = block_state::pending;
  return true;
}

/// Builds the commands of one request in the slots that come next, without taking them, in the
/// order of the free stack. @return how many; 0: what no command can say; more than are free: no
/// room
std::uint32_t queue_pair::describe(const block_request& request) noexcept {
  switch (request.op) {
    case block_op::read:
    case block_op::write:
    case block_op::compare:
      return well_formed(request) ? describe_transfer(request) : 0;
    case block_op::flush:
      write_command(submission_.slot(), {.opcode = opcode_of(request.op), .id = next_id(0)},
                    {.blocks = 1}, {});
      return 1;
    case block_op::write_zeroes:
    case block_op::deallocate:
    case block_op::verify:
      return describe_without_data(request);
  }
  return 0;
}

bool queue_pair::well_formed(const block_request& request) const noexcept {
  std::uint64_t bytes = std::uint64_t{request.blocks} << block_shift_;
  if (bytes == 0 || bytes > transfer_bytes_max_) {
    return false;
  }
  for (const segment& part : std::span{request.segments, request.segment_count}) {
    if (part.length > bytes || (part.memory == nullptr && part.length != 0)) {
      return false;
    }
    check_not_poisoned({part.address, part.length});
    bytes -= part.length;
  }
  return bytes == 0;
}

prp_list queue_pair::list_of(std::uint16_t id) const noexcept {
  const std::size_t offset = id * list_bytes_;
  return {.entries = {reinterpret_cast<std::uint64_t*>(list_memory_.data() + offset),
                      list_bytes_ / sizeof(std::uint64_t)},
          .address = list_address_ + offset};
}

std::uint32_t queue_pair::describe_transfer(const block_request& request) noexcept {
  segment_cursor rest{.rest = {request.segments, request.segment_count}};
  std::uint32_t parts = 0;
  block_request part = request;
  for (std::uint64_t left = std::uint64_t{request.blocks} << block_shift_; left != 0; ++parts) {
    if (parts == free_count_) {
      return free_count_ + 1;
    }
    const std::uint16_t id = next_id(parts);
    prp_pair prps;
    const std::uint32_t bytes = describe_run(rest, prps_, list_of(id), prps);
    if (bytes == 0) {
      return 0;
    }
    part.blocks = bytes >> block_shift_;
    write_command(submission_.slot(parts), {.opcode = opcode_of(part.op), .id = id}, part, prps);
    part.first = part.first + part.blocks;
    rest.skip(bytes);
    left -= bytes;
  }
  return parts;
}

std::uint32_t queue_pair::describe_without_data(const block_request& request) noexcept {
  if (request.blocks == 0 || request.blocks > blocks_max_without_data ||
      request.segment_count != 0) {
    return 0;
  }
  const std::uint32_t blocks_max = request.op == block_op::verify ? limits_.verify_blocks
                                   : request.op == block_op::deallocate
                                       ? limits_.deallocate_blocks
                                       : limits_.write_zeroes_blocks;
  std::uint32_t parts = 0;
  block_request part = request;
  for (std::uint32_t left = request.blocks; left != 0; ++parts) {
    if (parts == free_count_) {
      return free_count_ + 1;
    }
    const std::uint16_t id = next_id(parts);
    submission_entry& entry = submission_.slot(parts);
    part.blocks = std::min(left, blocks_max);
    write_command(entry, {.opcode = opcode_of(part.op), .id = id}, part, {});
    if (part.op == block_op::deallocate) {
      write_range(entry, id, part);
    } else if (part.op == block_op::write_zeroes && part.force_unit_access) {
      entry.cdw12 |= io_force_unit_access;
    }
    part.first = part.first + part.blocks;
    left -= part.blocks;
  }
  return parts;
}

/// Dataset management names its one range in memory: where the command's PRP list would be.
void queue_pair::write_range(submission_entry& entry, std::uint16_t id,
                             const block_request& part) const noexcept {
  const prp_list list = list_of(id);
  const dataset_range range{.attributes = 0, .blocks = part.blocks, .first = raw(part.first)};
  CHECK(list.entries.size_bytes() >= sizeof range);
  std::memcpy(list.entries.data(), &range, sizeof range);
  entry.prp1 = raw(list.address);
  entry.cdw10 = 0;  // one range, 0's based
  entry.cdw11 = dataset_deallocate;
  entry.cdw12 = 0;
}

/// How far we have read is shown late: new requests would wait for the cache line that it takes.
void queue_pair::flush() noexcept {
  submission_.publish();
  completion_.publish(shows_progress_);
  tell();
}

void queue_pair::disarm() noexcept {
  if (wake_fd_ >= 0) {
    eventfd_t ignored = 0;
    (void)eventfd_read(wake_fd_, &ignored);  // it fails when nothing came
  }
}

std::size_t queue_pair::poll(std::span<block_completion> out) noexcept {
  // pairs with the controller's release: what a stopped device completed is seen below, all of it
  const queue_state state = control_->state.load(std::memory_order_acquire);
  std::size_t count = 0;
  // A device that answers nothing but nonsense gets one lap of our time, and none once its requests
  // are being ended for it: it could end one again.
  const bool ending = state >= queue_state::stopped && fail_cursor_ != 0;
  std::uint32_t budget = ending ? 0 : completion_.size();
  completion_view completion;
  while (count < out.size() && budget-- != 0 && completion_.next(completion)) {
    if (finish(completion, out[count])) {
      ++count;
    }
  }
  completion_.publish(shows_progress_ && count == 0);
  submission_.publish();  // only what an earlier flush could not: a posted doorbell had no room
  tell();
  if (state >= queue_state::stopped) [[unlikely]] {
    count += fail_in_flight(out.subspan(count), state);
  } else if (control_->ticks.load(std::memory_order_relaxed) != tick_seen_ && count < out.size())
      [[unlikely]] {
    look_for_overdue();  // not before all answers are taken in: this core may be late, too
  }
  return count;
}

/// True: `out` is the completion of a request.
inline bool queue_pair::finish(const completion_view& completion, block_completion& out) noexcept {
  const std::uint16_t id = completion.command_id;
  if (id >= commands_ || slots_[id].state != slot_state::in_flight) [[unlikely]] {
    return finish_other(completion, out);
  }
  const auto status = static_cast<block_status>(completion.status);
  const slot& command = slots_[id];
  if (command.parts != 1) [[unlikely]] {
    return finish_part(id, status, out);
  }
  out.tag = command.tag;
  out.status = command.status == block_status::success ? status : command.status;
  release(id);
  return true;
}

/// The completion of a command that is overdue, or of none.
bool queue_pair::finish_other(const completion_view& completion, block_completion& out) noexcept {
  const std::uint16_t id = completion.command_id;
  if (id >= commands_ || slots_[id].state != slot_state::overdue) {
    ++bogus_completions_;
    return false;
  }
  if (slots_[id].parts == 1) {
    slots_[id].parent = id;
  }
  const bool request_ended = finish_part(id, static_cast<block_status>(completion.status), out);
  // pairs with the controller's acquire: it sees that there is nothing left to abort
  control_->overdue.store(overdue_ | queue_control::ended, std::memory_order_release);
  return request_ended;
}

/// One of several commands of a request has ended, or one that was overdue.
bool queue_pair::finish_part(std::uint16_t id, block_status status,
                             block_completion& out) noexcept {
  const std::uint16_t parent_id = slots_[id].parent;
  slot& parent = slots_[parent_id];
  if (parent.status == block_status::success) {
    parent.status = status;
  }
  if (id == parent_id) {
    parent.state = slot_state::held;
  } else {
    retire(id);
  }
  if (--parent.parts != 0) {
    return false;
  }
  out = {.tag = parent.tag, .status = parent.status};
  retire(parent_id);
  return true;
}

/// A command has ended, and its request does not need its slot any more.
void queue_pair::retire(std::uint16_t id) noexcept {
  if (id + 1U == overdue_) {
    slots_[id].state = slot_state::held;
  } else if (slots_[id].state != slot_state::resting) {
    release(id);
  }
}

/// Tells the controller of one command that is overdue, and takes the id of the last one back.
void queue_pair::look_for_overdue() noexcept {
  tick_seen_ = control_->ticks.load(std::memory_order_relaxed);
  end_rests();
  if (overdue_ != 0) {
    // pairs with the controller's release: its abort has ended
    if (control_->overdue.load(std::memory_order_acquire) != 0) {
      return;
    }
    const auto id = static_cast<std::uint16_t>(std::exchange(overdue_, 0) - 1);
    CHECK(slots_[id].state == slot_state::held);
    rest(id);
  }
  for (std::uint32_t id = 0; id < commands_; ++id) {
    slot& command = slots_[id];
    if (command.state == slot_state::in_flight && is_old(command)) {
      command.state = slot_state::overdue;
      overdue_ = id + 1;
      control_->overdue.store(overdue_, std::memory_order_release);  // pairs with its acquire
      return;
    }
  }
}

bool queue_pair::is_old(const slot& command) const noexcept {
  return static_cast<std::uint8_t>(tick_seen_ - command.tick) > ticks_per_command;
}

void queue_pair::end_rests() noexcept {
  for (std::uint32_t id = 0; resting_ != 0 && id < commands_; ++id) {
    if (slots_[id].state == slot_state::resting && slots_[id].parts == 0 && is_old(slots_[id])) {
      --resting_;
      release(static_cast<std::uint16_t>(id));
    }
  }
}

/// An id whose abort has ended rests for the time that a command may take, but never more than half
/// of all ids: a queue must go on.
void queue_pair::rest(std::uint16_t id) noexcept {
  if (resting_ < commands_ / 2) {
    ++resting_;
    slots_[id].state = slot_state::resting;
    slots_[id].tick = tick_seen_;
  } else if (slots_[id].parts == 0) {  // else other parts of its request will release it
    release(id);
  }
}

inline void queue_pair::release(std::uint16_t id) noexcept {
  slots_[id].state = slot_state::free;
  free_[free_count_++] = id;
}

/// Ends requests whose completions will never come. @pre the device no longer touches their memory,
/// or is gone
std::size_t queue_pair::fail_in_flight(std::span<block_completion> out, queue_state why) noexcept {
  if (control_->rewound.load(std::memory_order_relaxed)) {
    return 0;
  }
  std::size_t count = 0;
  for (; fail_cursor_ < commands_ && count < out.size(); ++fail_cursor_) {
    slot& command = slots_[fail_cursor_];
    if (command.state != slot_state::free && command.parts != 0) {
      out[count++] = {
          .tag = command.tag,
          .status = why == queue_state::gone ? block_status::device_gone : block_status::aborted};
    }
    command.state = slot_state::free;
  }
  if (fail_cursor_ == commands_) {
    rewind();
    control_->rewound.store(true, std::memory_order_release);  // pairs with controller's acquire
  }
  return count;
}

void queue_pair::rewind() noexcept {
  submission_.rewind();
  completion_.rewind();
  std::ranges::fill(slots_, slot{});
  for (std::uint32_t i = 0; i < commands_; ++i) {
    free_[i] = static_cast<std::uint16_t>(commands_ - 1 - i);  // id 0 is taken first
  }
  free_count_ = commands_;
  publish_at_ = only_at_flush;
  fail_cursor_ = 0;
  overdue_ = resting_ = 0;
  control_->overdue.store(0, std::memory_order_relaxed);  // the controller reads it once we run
}

}  // namespace runnel::nvme
