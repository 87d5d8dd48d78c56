#include "apps/target/io_path.h"

#include "apps/target/prp_walk.h"
#include "mempool/base/check.h"
#include "mempool/base/checked.h"

namespace runnel::target {

using nvme::status_code;
using nvme::submission_entry;

namespace {

/// The verdict on a command that is a job.
constexpr status_code is_a_job{0xffff};

failed_command failure_of(std::uint16_t queue, const submission_entry& command,
                          status_code status) noexcept {
  return {.queue = queue,
          .command_id = command.command_id,
          .status = status,
          .nsid = command.nsid,
          .first = std::uint64_t{command.cdw11} << 32U | command.cdw10};
}

}  // namespace

io_counters& io_counters::operator+=(const io_counters& other) noexcept {
  reads += other.reads;
  writes += other.writes;
  bytes_read += other.bytes_read;
  bytes_written += other.bytes_written;
  errors += other.errors;
  media_errors += other.media_errors;
  runs += other.runs;
  refused += other.refused;
  wrong_doorbells += other.wrong_doorbells;
  return *this;
}

io_path::io_path(const io_parts& parts, const io_limits& limits)
    : queues_{*parts.queues},
      mine_{parts.queues->of_core(parts.core)},
      paths_{parts.paths},
      memory_{*parts.memory},
      limits_{limits},
      errors_{*parts.errors},
      jobs_{paths_, memory_, limits_, epochs_, counters_, errors_},
      segments_per_command_{segments_for(limits.transfer_bytes_max)},
      segments_(burst_max * segments_per_command_) {}

std::uint32_t io_path::fetch() noexcept {
  std::uint32_t taken = 0;
  for (submission_queue* queue : mine_.served) {
    std::uint32_t from_queue = 0;
    std::uint32_t now = 0;
    do {
      now = fetch_from(*queue);
      from_queue += now;
    } while (now != 0 && from_queue < fetch_max);
    taken += from_queue;
  }
  if (taken != 0) {
    publish();
  }
  return taken;
}

std::uint32_t io_path::fetch_from(submission_queue& queue) noexcept {
  std::uint32_t count = queue.waiting(counters_.wrong_doorbells);
  if (count == 0) {
    return 0;
  }
  count = std::min(count, burst_max);
  if (queue.has_aborted()) [[unlikely]] {
    count = queue.before_aborted(count);
  }
  count = std::min(count, queue.answers().room(count, counters_.wrong_doorbells));
  const std::span<submission_entry> commands = std::span{commands_}.first(count);
  queue.copy(commands);
  std::uint32_t taken = 0;
  while (taken < count) {
    start(commands.subspan(taken), queue.id());
    const std::uint32_t now = answer(queue, run_);
    taken += now;
    if (now != run_.commands.size()) {
      break;  // the device has no room for the next
    }
    if (run_.job_follows) [[unlikely]] {
      const std::uint32_t more = jobs_.take(queue, commands[taken]);
      taken += more;
      if (more == 0) {
        break;  // its turn comes later
      }
    }
  }
  queue.keep_quiet();
  return taken;
}

/// Takes the commands at the front that are for one namespace, up to the first that is a job, and
/// submits those that are right.
void io_path::start(std::span<const submission_entry> commands, std::uint16_t queue) noexcept {
  run& work = run_;
  const std::uint32_t nsid = commands.front().nsid;
  work.path = nsid - 1 < paths_.size() ? &paths_[nsid - 1] : nullptr;
  work.request_count = 0;
  work.segment_count = 0;
  work.job_follows = work.path == nullptr || work.path->held;
  std::size_t count = 0;
  while (!work.job_follows && count < commands.size() && commands[count].nsid == nsid) {
    const status_code verdict = judge(work, commands[count], queue);
    if (verdict == is_a_job) [[unlikely]] {
      work.job_follows = true;
      break;
    }
    work.verdicts[count++] = verdict;
    work.request_count += verdict == status_code::success ? 1U : 0U;
  }
  work.commands = commands.first(count);
  if (work.request_count != 0) {
    work.path->queue->submit(std::span{work.requests}.first(work.request_count));
    work.path->dirty = true;
  }
}

/// @return success: the next request of the run stands for it
status_code io_path::judge(run& work, const submission_entry& command,
                           std::uint16_t queue) noexcept {
  if (command.flags != 0) {
    return is_a_job;
  }
  block_request& request = work.requests[work.request_count];
  request.tag = command_tag{command.command_id, queue, epochs_.now}.pack();
  request.force_unit_access = false;
  const auto opcode = static_cast<nvme::io_opcode>(command.opcode);
  if (opcode == nvme::io_opcode::read) {
    request.op = block_op::read;
  } else if (opcode == nvme::io_opcode::write) {
    if ((command.cdw12 & nvme::io_directive_mask) != 0) [[unlikely]] {
      return status_code::invalid_field;  // there are no directives
    }
    request.op = block_op::write;
    request.force_unit_access =
        limits_.write_through || (command.cdw12 & nvme::io_force_unit_access) != 0;
  } else if (opcode == nvme::io_opcode::flush) {
    request.op = block_op::flush;
    request.segment_count = 0;
    request.blocks = 0;
    return status_code::success;
  } else {
    return is_a_job;
  }
  return judge_transfer(work, request, command);
}

status_code io_path::judge_transfer(run& work, block_request& request,
                                    const submission_entry& command) noexcept {
  const std::uint64_t first = std::uint64_t{command.cdw11} << 32U | command.cdw10;
  const std::uint32_t blocks = (command.cdw12 & 0xffffU) + 1;
  const std::uint64_t bytes = std::uint64_t{blocks} << work.path->block_shift;
  if (bytes > limits_.transfer_bytes_max) {
    return status_code::invalid_field;
  }
  if (!range_within(first, blocks, work.path->block_count)) {
    return status_code::lba_out_of_range;
  }
  const std::span out{segments_.data() + work.segment_count, segments_per_command_};
  const access wanted = request.op == block_op::read ? access::write : access::read;
  const prp_segments found = walk_prp(
      memory_, {.prp1 = command.prp1, .prp2 = command.prp2, .bytes = bytes, .wanted = wanted}, out);
  work.segment_count += found.count;
  request.segments = out.data();
  request.segment_count = found.count;
  request.blocks = blocks;
  request.first = lba{first};
  return found.status;
}

/// Walks the run in the order of the queue and stops at the first command that its device had no
/// room for: that one and those behind it were not started and are fetched anew later.
/// @return commands that left the queue
std::uint32_t io_path::answer(submission_queue& queue, const run& work) noexcept {
  const block_request* request = work.requests.data();
  std::uint32_t pending = 0;
  std::uint32_t taken = 0;
  for (; taken < work.commands.size(); ++taken) {
    const std::uint16_t id = work.commands[taken].command_id;
    if (work.verdicts[taken] != status_code::success) {
      queue.advance();
      queue.refuse(id, work.verdicts[taken]);
      note(failure_of(queue.id(), work.commands[taken], work.verdicts[taken]));
      continue;
    }
    if (request->state == block_state::refused) {
      ++counters_.refused;
      break;
    }
    queue.advance();
    if (request->state == block_state::done) {
      queue.answer(id, code_of(request->status));
      if (request->status != block_status::success) {
        note(failure_of(queue.id(), work.commands[taken], code_of(request->status)));
      }
    } else {
      ++pending;
    }
    account(*request++, *work.path);
  }
  if (pending != 0) {
    queue.started(pending);
    queue.answers().promise(pending);
    work.path->in_flight += pending;
    epochs_.in_flight[epochs_.now] += pending;
  }
  counters_.runs += work.commands.empty() ? 0U : 1U;
  return taken;
}

void io_path::account(const block_request& request, const namespace_path& path) noexcept {
  if (request.state == block_state::done && request.status != block_status::success) {
    return;
  }
  const std::uint64_t bytes = std::uint64_t{request.blocks} << path.block_shift;
  if (request.op == block_op::read) {
    ++counters_.reads;
    counters_.bytes_read += bytes;
  } else if (request.op == block_op::write) {
    ++counters_.writes;
    counters_.bytes_written += bytes;
  }
}

std::uint32_t io_path::collect() noexcept {
  std::uint32_t answered = 0;
  for (namespace_path& path : paths_) {
    if (path.in_flight != 0 || path.jobs != 0) {  // a job may wait for room, which polling makes
      answered += collect_from(path);
    }
  }
  if (jobs_.any()) [[unlikely]] {
    answered += jobs_.advance();
    publish();
  }
  return answered;
}

inline std::uint32_t io_path::collect_from(namespace_path& path) noexcept {
  const std::size_t count = path.queue->poll(finished_);
  for (const block_completion& completion : std::span{finished_}.first(count)) {
    if ((completion.tag & command_tag::of_job) != 0) [[unlikely]] {
      jobs_.request_ended(static_cast<std::uint32_t>(completion.tag), completion.status);
      continue;
    }
    const command_tag tag = command_tag::unpack(completion.tag);
    submission_queue& queue = queues_.submission(tag.queue);
    queue.ended();
    queue.answers().keep_promise();
    queue.answer(tag.command_id, code_of(completion.status));
    --epochs_.in_flight[tag.epoch];
    if (completion.status != block_status::success) {
      note({.queue = tag.queue,
            .command_id = tag.command_id,
            .status = code_of(completion.status),
            .nsid = static_cast<std::uint32_t>(&path - paths_.data()) + 1});
    }
  }
  path.in_flight -= static_cast<std::uint32_t>(count);
  return static_cast<std::uint32_t>(count);
}

bool io_path::arm() noexcept {
  if (jobs_.any()) {
    return false;
  }
  for (submission_queue* queue : mine_.served) {
    queue->ask_to_be_rung(counters_.wrong_doorbells);
  }
  return true;
}

void io_path::disarm() noexcept {
  for (submission_queue* queue : mine_.served) {
    queue->renew();
  }
}

[[gnu::cold]] void io_path::note(const failed_command& failed) noexcept {
  ++counters_.errors;
  counters_.media_errors += is_media_error(failed.status) ? 1U : 0U;
  note_error(errors_, failed);
}

void io_path::publish() noexcept {
  for (namespace_path& path : paths_) {
    if (path.dirty) {
      path.dirty = false;
      path.queue->flush();
    }
  }
}

void io_path::forget_memory() noexcept {
  CHECK(memory_forgotten());
  epochs_.now ^= 1U;
  memory_.forget();
}

}  // namespace runnel::target
