#include "drivers/uring/sync_queue.h"

#include <fcntl.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <optional>

#include "mempool/base/check.h"

namespace runnel::uring {
namespace {

/// One system call for what is left of a transfer. @return bytes done, or minus errno
std::int64_t call(int fd, transfer& one) noexcept {
  const auto position = static_cast<off_t>(one.position);
  ssize_t answer = 0;
  switch (one.op) {
    case block_op::read:
    case block_op::compare:
    case block_op::verify: {
      const std::span<const iovec> memory = one.memory();
      answer = preadv2(fd, memory.data(), static_cast<int>(memory.size()), position, 0);
      break;
    }
    case block_op::write: {
      const std::span<const iovec> memory = one.memory();
      answer = pwritev2(fd, memory.data(), static_cast<int>(memory.size()), position,
                        one.durable ? RWF_DSYNC : 0);
      break;
    }
    case block_op::flush:
      answer = fdatasync(fd);
      break;
    case block_op::write_zeroes:
    case block_op::deallocate:
      answer = fallocate(fd, one.zero_mode_now(), position, static_cast<off_t>(one.bytes_left));
      break;
  }
  return answer < 0 ? -errno : answer;
}

}  // namespace

sync_queue::sync_queue(const opened_file& file, std::uint32_t depth)
    : file_{file}, transfers_{file, 1}, depth_{depth} {}

void sync_queue::submit(std::span<block_request> requests) noexcept {
  for (block_request& request : requests) {
    request.state = block_state::done;
    request.status = check_request(file_, request);
    if (request.status == block_status::success) {
      request.status = execute(request);
    }
  }
}

block_status sync_queue::execute(const block_request& request) noexcept {
  transfer* one = transfers_.begin(request);
  CHECK(one != nullptr);  // its only place is free between requests
  std::optional<block_status> ended;
  while (!ended) {  // bounded: every turn makes progress or uses up an attempt
    ended = one->advance(call(file_.fd.get(), *one), file_.geometry.block_bytes);
  }
  return transfers_.end(*one, *ended);
}

}  // namespace runnel::uring
