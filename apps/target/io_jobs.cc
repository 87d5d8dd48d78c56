#include "apps/target/io_jobs.h"

#include <algorithm>

#include "apps/target/error_log.h"
#include "apps/target/prp_walk.h"
#include "mempool/base/check.h"
#include "mempool/base/checked.h"

namespace runnel::target {

using nvme::io_opcode;
using nvme::status_code;
using nvme::submission_entry;

namespace {

/// What one request of a job covers at most, and how many of them a job submits in one turn, one
/// when it is taken: what devices in memory do in place keeps the other commands waiting.
constexpr std::uint64_t request_bytes_max = mib;
constexpr std::uint32_t requests_per_turn = 4;

std::uint64_t first_of(const submission_entry& command) noexcept {
  return std::uint64_t{command.cdw11} << 32U | command.cdw10;
}
std::uint32_t blocks_of(const submission_entry& command) noexcept {
  return (command.cdw12 & 0xffffU) + 1;
}
io_opcode opcode_of(const submission_entry& command) noexcept {
  return static_cast<io_opcode>(command.opcode);
}

/// What a command needs its devices to do; empty: no such command here.
std::optional<block_op> need_of(const submission_entry& command) noexcept {
  switch (opcode_of(command)) {
    case io_opcode::flush:
      return block_op::flush;
    case io_opcode::write:
      return block_op::write;
    case io_opcode::read:
      return block_op::read;
    case io_opcode::compare:
      return block_op::compare;
    case io_opcode::write_zeroes:
      return block_op::write_zeroes;
    case io_opcode::dataset_management:
      return block_op::deallocate;
    case io_opcode::verify:
      return block_op::verify;
    case io_opcode::write_uncorrectable:
    case io_opcode::copy:
      break;
  }
  return std::nullopt;
}

}  // namespace

io_jobs::io_jobs(std::span<namespace_path> paths, memory_view& memory, const io_limits& limits,
                 epoch_counts& epochs, io_counters& counters, error_state& errors)
    : paths_{paths},
      memory_{memory},
      limits_{limits},
      epochs_{epochs},
      counters_{counters},
      errors_{errors},
      segments_per_transfer_{segments_for(limits.transfer_bytes_max)},
      segments_(2 * jobs_max * segments_per_transfer_),
      jobs_(jobs_max) {}

io_jobs::job* io_jobs::find_unused() noexcept {
  const auto found =
      std::ranges::find_if(jobs_, [](const job& each) { return each.at == stage::unused; });
  return found == jobs_.end() ? nullptr : &*found;
}

std::span<segment> io_jobs::segments_of(const job& work, std::size_t which) noexcept {
  const auto index = static_cast<std::size_t>(&work - jobs_.data());
  return std::span{segments_}.subspan((2 * index + which) * segments_per_transfer_,
                                      segments_per_transfer_);
}

std::uint32_t io_jobs::take(submission_queue& queue, const submission_entry& first) noexcept {
  job* const work = find_unused();
  const namespace_path* const path = path_of(first.nsid);
  if (work == nullptr || (path != nullptr && path->held)) {
    return 0;
  }
  *work = {.epoch = epochs_.now, .ids = {first.command_id, 0}};
  if (first.flags == nvme::fused_first && limits_.operations.contains(block_op::compare)) {
    return take_pair(queue, *work, first);
  }
  const status_code wrong = plan(*work, first);
  if (wrong != status_code::success) {
    refuse(queue, first, wrong);
    return 1;
  }
  queue.advance();
  start(*work, queue);
  return 1;
}

/// Judges a command and makes its job ready.
status_code io_jobs::plan(job& work, const submission_entry& command) noexcept {
  const std::optional<block_op> need = need_of(command);
  if (!need || !limits_.operations.contains(*need)) {
    return status_code::invalid_opcode;
  }
  if (command.flags != 0) {
    // A second without its first; neither SGLs nor other pairs.
    const bool lonely =
        command.flags == nvme::fused_second && limits_.operations.contains(block_op::compare);
    return lonely ? status_code::fused_missing : status_code::invalid_field;
  }
  if (*need == block_op::flush && command.nsid == nvme::nsid_all) {
    work.what = kind::flush_all;
    work.requests[0].op = block_op::flush;
    return status_code::success;
  }
  const namespace_path* const path = path_of(command.nsid);
  if (path == nullptr) {
    return status_code::invalid_namespace_or_format;
  }
  work.path = command.nsid - 1;
  switch (*need) {
    case block_op::compare:
      work.what = kind::compare;
      return plan_transfer(work, 0, block_op::compare, command);
    case block_op::write_zeroes: {
      const bool hole = (command.cdw12 & nvme::write_zeroes_deallocate) != 0 &&
                        path->deallocated_is_zero &&
                        limits_.operations.contains(block_op::deallocate);
      work.flush_after = limits_.write_through || (command.cdw12 & nvme::io_force_unit_access) != 0;
      return plan_range(work, hole ? block_op::deallocate : block_op::write_zeroes, command);
    }
    case block_op::verify:
      return plan_range(work, block_op::verify, command);
    case block_op::deallocate:
      return plan_dataset(work, command);
    case block_op::read:
    case block_op::write:
    case block_op::flush:
      break;
  }
  return status_code::invalid_field;  // a write with a directive: all else is io_path's
}

status_code io_jobs::plan_transfer(job& work, std::size_t which, block_op op,
                                   const submission_entry& command) noexcept {
  const namespace_path& path = paths_[work.path];
  const std::uint32_t blocks = blocks_of(command);
  const std::uint64_t bytes = std::uint64_t{blocks} << path.block_shift;
  if (bytes > limits_.transfer_bytes_max) {
    return status_code::invalid_field;
  }
  if (!range_within(first_of(command), blocks, path.block_count)) {
    return status_code::lba_out_of_range;
  }
  const std::span out = segments_of(work, which);
  const prp_segments found = walk_prp(
      memory_, {.prp1 = command.prp1, .prp2 = command.prp2, .bytes = bytes, .wanted = access::read},
      out);
  work.requests[which] = {.segments = out.data(),
                          .segment_count = found.count,
                          .blocks = blocks,
                          .first = lba{first_of(command)},
                          .op = op};
  return found.status;
}

status_code io_jobs::plan_range(job& work, block_op op, const submission_entry& command) noexcept {
  if (!range_within(first_of(command), blocks_of(command), paths_[work.path].block_count)) {
    return status_code::lba_out_of_range;
  }
  work.op = op;
  work.range_count = 1;
  work.ranges[0] = {.attributes = 0, .blocks = blocks_of(command), .first = first_of(command)};
  return status_code::success;
}

/// All ranges are judged before any is touched. Without the deallocate attribute they are hints
/// that nobody here takes.
status_code io_jobs::plan_dataset(job& work, const submission_entry& command) noexcept {
  constexpr std::size_t bytes_max = sizeof work.ranges;
  work.op = block_op::deallocate;
  work.range_count = (command.cdw10 & 0xffU) + 1;
  const std::uint64_t bytes = work.range_count * sizeof(nvme::dataset_range);
  std::array<segment, segments_for(bytes_max)> pieces;
  const prp_segments found = walk_prp(
      memory_, {.prp1 = command.prp1, .prp2 = command.prp2, .bytes = bytes, .wanted = access::read},
      pieces);
  auto* out = reinterpret_cast<std::byte*>(work.ranges.data());
  for (const segment& piece : std::span{pieces}.first(found.count)) {
    copy_once(out, piece.address, piece.length);
    out += piece.length;
  }
  if (found.status != status_code::success) {
    return found.status;
  }
  const std::uint64_t block_count = paths_[work.path].block_count;
  for (const nvme::dataset_range& each : std::span{work.ranges}.first(work.range_count)) {
    if (!range_within(each.first, each.blocks, block_count)) {
      return status_code::lba_out_of_range;
    }
  }
  if ((command.cdw11 & nvme::dataset_deallocate) == 0) {
    work.range_count = 0;
  }
  return status_code::success;
}

/// Either both commands of a pair are carried out, or neither: what is wrong with one is its
/// status, and the other fails with it. @spec NVMe Base 2.0 §3.4.2
std::uint32_t io_jobs::take_pair(submission_queue& queue, job& work,
                                 const submission_entry& first) noexcept {
  submission_entry second{};
  if (!queue.copy_second(second, counters_.wrong_doorbells) || second.flags != nvme::fused_second) {
    refuse(queue, first, status_code::fused_missing);
    return 1;
  }
  if (!queue.answers().can_hold(2)) {
    refuse(queue, first, status_code::invalid_field);  // and then the second has lost its first
    return 1;
  }
  if (queue.answers().room(2, counters_.wrong_doorbells) < 2) {
    return 0;
  }
  work.what = kind::pair;
  work.ids[1] = second.command_id;
  std::array<status_code, 2> wrong = plan_pair(work, first, second);
  if (wrong[0] != status_code::success || wrong[1] != status_code::success) {
    std::ranges::replace(wrong, status_code::success, status_code::fused_failed);
    refuse(queue, first, wrong[0]);
    refuse(queue, second, wrong[1]);
    return 2;
  }
  queue.advance();
  queue.advance();
  paths_[work.path].held = true;
  start(work, queue);
  return 2;
}

std::array<status_code, 2> io_jobs::plan_pair(job& work, const submission_entry& first,
                                              const submission_entry& second) noexcept {
  const bool together = opcode_of(first) == io_opcode::compare &&
                        opcode_of(second) == io_opcode::write && first.nsid == second.nsid &&
                        first_of(first) == first_of(second) &&
                        blocks_of(first) == blocks_of(second);
  if (!together) {
    return {status_code::invalid_field, status_code::invalid_field};
  }
  if (path_of(first.nsid) == nullptr) {
    return {status_code::invalid_namespace_or_format, status_code::invalid_namespace_or_format};
  }
  work.path = first.nsid - 1;
  const std::array wrong{plan_transfer(work, 0, block_op::compare, first),
                         (second.cdw12 & nvme::io_directive_mask) != 0
                             ? status_code::invalid_field
                             : plan_transfer(work, 1, block_op::write, second)};
  work.requests[1].force_unit_access =
      limits_.write_through || (second.cdw12 & nvme::io_force_unit_access) != 0;
  return wrong;
}

/// From here on the answers are promised, and the job runs to its end by itself.
void io_jobs::start(job& work, submission_queue& queue) noexcept {
  const std::uint32_t commands = work.what == kind::pair ? 2 : 1;
  work.queue = &queue;
  queue.started(commands);
  queue.answers().promise(commands);
  epochs_.in_flight[work.epoch] += commands;
  ++paths_[work.path].jobs;
  ++active_;
  work.at = stage::ready;
  if (work.what == kind::ranges && !prepare_range(work)) {
    finish(work, status_code::success);  // nothing to do
    return;
  }
  (void)run(work, 1);
}

/// Whether a job's next request may be submitted. A pair begins when it is alone.
bool io_jobs::may_begin(job& work) noexcept {
  if (work.what != kind::pair || work.alone) {
    return true;
  }
  namespace_path& path = paths_[work.path];
  if (path.in_flight != 0 || path.jobs != 1) {
    return false;
  }
  // Pairs with the release of the pair that went before, perhaps on another core: what it wrote is
  // what this one compares.
  work.alone =
      path.pair_gate == nullptr || !path.pair_gate->exchange(true, std::memory_order_acquire);
  return work.alone;
}

/// Submits requests while they finish in place. @return whether any was taken
bool io_jobs::run(job& work, std::uint32_t requests_max) noexcept {
  if (!may_begin(work)) {
    return false;
  }
  for (std::uint32_t count = 0; count < requests_max; ++count) {
    namespace_path& path = paths_[work.path];
    block_request& request = work.requests[work.request_index];
    request.tag = command_tag::of_job | static_cast<std::uint64_t>(&work - jobs_.data());
    path.queue->submit({&request, 1});
    path.dirty = true;
    if (request.state == block_state::refused) {
      ++counters_.refused;
      return count != 0;
    }
    if (request.state == block_state::pending) {
      work.at = stage::in_flight;
      ++path.in_flight;
      return true;
    }
    go_on(work, request.status);
    if (work.at != stage::ready) {
      return true;
    }
  }
  return true;
}

void io_jobs::request_ended(std::size_t index, block_status status) noexcept {
  CHECK(index < jobs_.size());
  CHECK(jobs_[index].at == stage::in_flight);
  jobs_[index].at = stage::ready;
  go_on(jobs_[index], status);
}

std::uint32_t io_jobs::advance() noexcept {
  std::uint32_t further = 0;
  for (job& work : jobs_) {
    if (work.at == stage::ready) {
      further += run(work, requests_per_turn) ? 1U : 0U;
    }
  }
  return further;
}

/// One request has ended: the next is made ready, or the command ends.
void io_jobs::go_on(job& work, block_status status) noexcept {
  if (status != block_status::success || !prepare_next(work)) {
    finish(work, code_of(status));
  }
}

/// @return false when the last request was the last
bool io_jobs::prepare_next(job& work) noexcept {
  switch (work.what) {
    case kind::compare:
      return false;
    case kind::pair:
      return ++work.request_index == 1;
    case kind::flush_all:
      if (work.path + 1 == paths_.size()) {
        return false;
      }
      --paths_[work.path].jobs;
      ++paths_[++work.path].jobs;
      return true;
    case kind::ranges:
      return prepare_range(work);
  }
  return false;
}

bool io_jobs::prepare_range(job& work) noexcept {
  const std::uint64_t blocks_max = std::min<std::uint64_t>(
      blocks_max_without_data,
      std::max<std::uint64_t>(request_bytes_max >> paths_[work.path].block_shift, 1));
  while (work.range_index < work.range_count) {
    const nvme::dataset_range& range = work.ranges[work.range_index];
    const auto blocks = static_cast<std::uint32_t>(
        std::min<std::uint64_t>(blocks_max, range.blocks - work.blocks_done));
    if (blocks != 0) {
      work.requests[0] = {
          .blocks = blocks, .first = lba{range.first + work.blocks_done}, .op = work.op};
      work.blocks_done += blocks;
      return true;
    }
    ++work.range_index;
    work.blocks_done = 0;
  }
  if (work.flush_after) {
    work.flush_after = false;
    work.requests[0] = {.op = block_op::flush};
    return true;
  }
  return false;
}

void io_jobs::finish(job& work, status_code status) noexcept {
  namespace_path& path = paths_[work.path];
  std::array<status_code, 2> statuses{status, status};
  std::uint32_t commands = 1;
  if (work.what == kind::pair) {
    commands = 2;
    // The write did not take place, or the comparison had been right.
    statuses = work.request_index == 0 ? std::array{status, status_code::fused_failed}
                                       : std::array{status_code::success, status};
    path.held = false;
    if (path.pair_gate != nullptr) {
      path.pair_gate->store(false, std::memory_order_release);
    }
  }
  submission_queue& queue = *work.queue;
  for (std::uint32_t i = 0; i < commands; ++i) {
    queue.ended();
    queue.answers().keep_promise();
    queue.answer(work.ids[i], statuses[i]);
    if (statuses[i] != status_code::success) {
      note(work, work.ids[i], statuses[i]);
    }
  }
  account(work);
  --path.jobs;
  epochs_.in_flight[work.epoch] -= commands;
  --active_;
  work.at = stage::unused;
}

/// Of data that came from the host. @spec NVMe Base 2.0 figure 207: compare counts as a read
void io_jobs::account(const job& work) noexcept {
  const namespace_path& path = paths_[work.path];
  if (work.what != kind::compare && work.what != kind::pair) {
    return;
  }
  const std::uint64_t bytes = std::uint64_t{work.requests[0].blocks} << path.block_shift;
  ++counters_.reads;
  counters_.bytes_read += bytes;
  if (work.request_index != 0) {
    ++counters_.writes;
    counters_.bytes_written += bytes;
  }
}

void io_jobs::note(const job& work, std::uint16_t id, status_code status) noexcept {
  ++counters_.errors;
  counters_.media_errors += is_media_error(status) ? 1U : 0U;
  note_error(errors_, {.queue = work.queue->id(),
                       .command_id = id,
                       .status = status,
                       .nsid = work.path + 1,
                       .first = raw(work.requests[work.request_index].first)});
}

void io_jobs::refuse(submission_queue& queue, const submission_entry& command,
                     status_code status) noexcept {
  ++counters_.errors;
  note_error(errors_, {.queue = queue.id(),
                       .command_id = command.command_id,
                       .status = status,
                       .nsid = command.nsid,
                       .first = first_of(command)});
  queue.advance();
  queue.refuse(command.command_id, status);
}

}  // namespace runnel::target
