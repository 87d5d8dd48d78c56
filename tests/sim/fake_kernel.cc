#include <fcntl.h>
#include <liburing.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <span>

#include "mempool/base/check.h"
#include "tests/sim/fake_file.h"

// The calls that `file:` makes of the kernel and of liburing, defined again: a program that links
// this has its files in `fake_file::current`, whatever descriptor it names.
namespace runnel::sim {
namespace {

using call = fake_file::call;

/// Answers as a system call does.
std::int64_t answer_of(call one) {
  one.began = fake_file::current->now();
  const std::int64_t answer = fake_file::current->carry_out(one);
  if (answer < 0) {
    errno = static_cast<int>(-answer);
    return -1;
  }
  return answer;
}

/// What a ring and its user share.
struct shared_ring {
  static constexpr unsigned entries_max = 256;
  static constexpr unsigned answers_max = 64;  // of one look
  unsigned sq_head = 0;
  unsigned sq_tail = 0;
  unsigned cq_head = 0;
  std::unique_ptr<io_uring_sqe[]> entries = std::make_unique<io_uring_sqe[]>(entries_max);
  // Bytes, because a completion has an open end and cannot be in an array.
  alignas(io_uring_cqe) std::array<std::byte, answers_max * sizeof(io_uring_cqe)> answers;

  io_uring_cqe* place(unsigned index, const fake_file::answer& told) {
    auto* made = new (&answers[index * sizeof(io_uring_cqe)]) io_uring_cqe;
    made->user_data = told.user;
    made->res = told.result;
    made->flags = 0;
    return made;
  }
};

call decode(const io_uring_sqe& entry) {
  call one;
  one.user = entry.user_data;
  one.position = entry.off;
  one.began = fake_file::current->now();
  switch (entry.opcode) {
    case IORING_OP_FSYNC:
      CHECK(entry.fsync_flags == IORING_FSYNC_DATASYNC);
      one.what = call::kind::sync;
      return one;
    case IORING_OP_FALLOCATE:
      one.what = call::kind::zero;
      one.bytes = entry.addr;
      one.mode = static_cast<int>(entry.len);
      return one;
    case IORING_OP_READV:
    case IORING_OP_WRITEV:
      one.memory = {reinterpret_cast<const iovec*>(entry.addr), entry.len};
      break;
    default:
      CHECK(entry.opcode == IORING_OP_READ || entry.opcode == IORING_OP_WRITE);
      one.own[0] = {.iov_base = reinterpret_cast<void*>(entry.addr), .iov_len = entry.len};
  }
  const bool writes = entry.opcode == IORING_OP_WRITE || entry.opcode == IORING_OP_WRITEV;
  one.what = writes ? call::kind::write : call::kind::read;
  one.dsync = (entry.rw_flags & RWF_DSYNC) != 0;
  return one;
}

}  // namespace
}  // namespace runnel::sim

using runnel::sim::call;
using runnel::sim::fake_file;
using runnel::sim::shared_ring;

extern "C" {

ssize_t preadv2(int, const iovec* vectors, int count, off_t position, int) {
  return runnel::sim::answer_of({.what = call::kind::read,
                                 .memory = {vectors, static_cast<std::size_t>(count)},
                                 .position = static_cast<std::uint64_t>(position)});
}

ssize_t pwritev2(int, const iovec* vectors, int count, off_t position, int flags) {
  return runnel::sim::answer_of({.what = call::kind::write,
                                 .memory = {vectors, static_cast<std::size_t>(count)},
                                 .position = static_cast<std::uint64_t>(position),
                                 .dsync = (flags & RWF_DSYNC) != 0});
}

int fallocate(int, int mode, off_t position, off_t bytes) {
  return static_cast<int>(runnel::sim::answer_of({.what = call::kind::zero,
                                                  .position = static_cast<std::uint64_t>(position),
                                                  .bytes = static_cast<std::uint64_t>(bytes),
                                                  .mode = mode}));
}

int fdatasync(int) {
  return static_cast<int>(runnel::sim::answer_of({.what = call::kind::sync}));
}

int io_uring_queue_init_params(unsigned, io_uring* ring, io_uring_params*) {
  auto* shared = new shared_ring;
  *ring = {};
  ring->sq.khead = &shared->sq_head;
  ring->sq.ktail = &shared->sq_tail;
  ring->sq.sqes = shared->entries.get();
  ring->sq.ring_entries = shared_ring::entries_max;
  ring->sq.ring_mask = ring->sq.ring_entries - 1;
  ring->sq.ring_ptr = shared;
  ring->cq.khead = &shared->cq_head;
  return 0;
}
void io_uring_queue_exit(io_uring* ring) {
  delete static_cast<shared_ring*>(ring->sq.ring_ptr);
}
int io_uring_register_files(io_uring*, const int*, unsigned) {
  return 0;
}
int io_uring_register(unsigned, unsigned, const void*, unsigned) {
  return 0;
}

int io_uring_submit_and_get_events(io_uring* ring) {
  const unsigned count = io_uring_sq_ready(ring);
  for (; *ring->sq.khead != ring->sq.sqe_tail; ++*ring->sq.khead) {
    fake_file::current->take(
        runnel::sim::decode(ring->sq.sqes[*ring->sq.khead & ring->sq.ring_mask]));
  }
  return static_cast<int>(count);
}
unsigned io_uring_peek_batch_cqe(io_uring* ring, io_uring_cqe** out, unsigned wanted) {
  auto& shared = *static_cast<shared_ring*>(ring->sq.ring_ptr);
  unsigned count = 0;
  for (const auto& each : fake_file::current->look(std::min(wanted, shared_ring::answers_max))) {
    out[count] = shared.place(count, each);
    ++count;
  }
  return count;
}
int io_uring_wait_cqe_timeout(io_uring*, io_uring_cqe**, __kernel_timespec*) {
  return 0;  // something will be found by looking
}

}  // extern "C"
