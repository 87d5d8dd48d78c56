#include "apps/target/io_path.h"

#include "apps/target/prp_walk.h"
#include "mempool/base/check.h"
#include "mempool/base/checked.h"

namespace runnel::target {

using nvme::status_code;
using nvme::submission_entry;

namespace {

/// What a completion tells about its command.
struct command_tag {
  std::uint16_t command_id;
  std::uint16_t queue;
  std::uint32_t epoch;

  [[nodiscard]] constexpr std::uint64_t pack() const noexcept {
    return std::uint64_t{epoch} << 32U | std::uint64_t{queue} << 16U | command_id;
  }
  [[nodiscard]] static constexpr command_tag unpack(std::uint64_t tag) noexcept {
    return {static_cast<std::uint16_t>(tag), static_cast<std::uint16_t>(tag >> 16U),
            static_cast<std::uint32_t>(tag >> 32U)};
  }
};

constexpr status_code code_of(block_status status) noexcept {
  return static_cast<status_code>(status);
}

}  // namespace

io_counters& io_counters::operator+=(const io_counters& other) noexcept {
  reads += other.reads;
  writes += other.writes;
  bytes_read += other.bytes_read;
  bytes_written += other.bytes_written;
  errors += other.errors;
  runs += other.runs;
  refused += other.refused;
  wrong_doorbells += other.wrong_doorbells;
  return *this;
}

io_path::io_path(queue_table& queues, const guest_memory& memory, std::span<namespace_path> paths,
                 const io_limits& limits)
    : queues_{queues},
      paths_{paths},
      memory_{memory},
      limits_{limits},
      segments_per_command_{segments_for(limits.transfer_bytes_max)},
      segments_(burst_max * segments_per_command_) {}

std::uint32_t io_path::fetch() noexcept {
  std::uint32_t taken = 0;
  for (submission_queue* queue : queues_.served()) {
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
  }
  return taken;
}

/// Takes the commands at the front that are for one namespace, and submits those that are right.
void io_path::start(std::span<const submission_entry> commands, std::uint16_t queue) noexcept {
  run& work = run_;
  const std::uint32_t nsid = commands.front().nsid;
  work.path = nsid - 1 < paths_.size() ? &paths_[nsid - 1] : nullptr;
  work.request_count = 0;
  work.segment_count = 0;
  std::size_t count = 0;
  do {
    work.verdicts[count] = judge(work, commands[count], queue);
    work.request_count += work.verdicts[count] == status_code::success ? 1U : 0U;
    ++count;
  } while (count < commands.size() && commands[count].nsid == nsid);
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
    return status_code::invalid_field;  // neither fused commands nor SGLs
  }
  if (work.path == nullptr) {
    return status_code::invalid_namespace_or_format;
  }
  block_request& request = work.requests[work.request_count];
  request.tag = command_tag{command.command_id, queue, epoch_}.pack();
  request.force_unit_access = false;
  const auto opcode = static_cast<nvme::io_opcode>(command.opcode);
  if (opcode == nvme::io_opcode::read) {
    request.op = block_op::read;
  } else if (opcode == nvme::io_opcode::write) {
    request.op = block_op::write;
    request.force_unit_access =
        limits_.write_through || (command.cdw12 & nvme::io_force_unit_access) != 0;
  } else if (opcode == nvme::io_opcode::flush) {
    request.op = block_op::flush;
    request.segment_count = 0;
    request.blocks = 0;
    return status_code::success;
  } else {
    return status_code::invalid_opcode;
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
      ++counters_.errors;
      continue;
    }
    if (request->state == block_state::refused) {
      ++counters_.refused;
      break;
    }
    queue.advance();
    if (request->state == block_state::done) {
      queue.answer(id, code_of(request->status));
    } else {
      ++pending;
    }
    account(*request++, *work.path);
  }
  if (pending != 0) {
    queue.started(pending);
    queue.answers().promise(pending);
    work.path->in_flight += pending;
    in_flight_[epoch_] += pending;
  }
  ++counters_.runs;
  return taken;
}

void io_path::account(const block_request& request, const namespace_path& path) noexcept {
  if (request.state == block_state::done && request.status != block_status::success) {
    ++counters_.errors;
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
    if (path.in_flight == 0) {
      continue;
    }
    const std::size_t count = path.queue->poll(finished_);
    for (const block_completion& completion : std::span{finished_}.first(count)) {
      const command_tag tag = command_tag::unpack(completion.tag);
      submission_queue& queue = queues_.submission(tag.queue);
      queue.ended();
      queue.answers().keep_promise();
      queue.answer(tag.command_id, code_of(completion.status));
      --in_flight_[tag.epoch];
      counters_.errors += completion.status != block_status::success ? 1U : 0U;
    }
    path.in_flight -= static_cast<std::uint32_t>(count);
    answered += static_cast<std::uint32_t>(count);
  }
  return answered;
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
  epoch_ ^= 1U;
  memory_.forget();
}

}  // namespace runnel::target
