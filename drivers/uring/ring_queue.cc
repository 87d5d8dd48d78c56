#include "drivers/uring/ring_queue.h"

#include <sys/eventfd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <vector>

#include "mempool/base/bits.h"
#include "mempool/base/check.h"
#include "mempool/base/units.h"

namespace runnel::uring {
namespace {

constexpr std::size_t poll_batch = 32;
/// So many requests do not wait for those that follow in the same turn: the disk, which answers
/// whole batches at a time, works on them while the rest is prepared.
constexpr unsigned publish_batch = 8;
constexpr std::uint64_t registered_piece_bytes = gib;  // the kernel's limit for one buffer
constexpr std::size_t registered_pieces_max = 1024;
constexpr __kernel_timespec drain_deadline{.tv_sec = 30, .tv_nsec = 0};

/// Best first. Completions deferred to our own call cost no interruption of a busy core (6.1); else
/// they wait for the next system call of any kind (5.19). The flag word says when one is due.
constexpr std::array<unsigned, 3> setups{IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
                                             IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_R_DISABLED,
                                         IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG, 0};

/// @return 0 or minus errno; `flags` is the setup that worked
int set_up(std::uint32_t entries, io_uring& ring, unsigned& flags) noexcept {
  int answer = -EINVAL;
  for (const unsigned setup : setups) {
    io_uring_params parameters{};
    parameters.flags = flags = setup;
    answer = io_uring_queue_init_params(entries, &ring, &parameters);
    if (answer != -EINVAL) {  // which is how a kernel answers to flags it does not know
      break;
    }
  }
  return answer;
}

}  // namespace

result<std::unique_ptr<ring_queue>> ring_queue::create(const opened_file& file, std::uint32_t depth,
                                                       const region* pinned) {
  io_uring ring{};
  unsigned flags = 0;
  if (const int answer = set_up(depth, ring, flags); answer < 0) {
    return fail(errc::os, static_cast<std::uint32_t>(-answer));
  }
  unique_fd wake{::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
  std::unique_ptr<ring_queue> made{new ring_queue{file, depth, std::move(wake)}};
  made->ring_ = ring;
  made->enabled_ = (flags & IORING_SETUP_R_DISABLED) == 0;
  made->register_with_kernel(pinned);
  if (!made->enabled_) {
    made->restrict_to_needs();
  }
  return made;
}

void ring_queue::register_with_kernel(const region* pinned) noexcept {
  const int fd = file_.fd.get();
  file_is_registered_ = io_uring_register_files(&ring_, &fd, 1) == 0;
  if (pinned == nullptr) {
    return;
  }
  std::vector<iovec> pieces;
  for (std::uint64_t at = 0; at < pinned->length; at += registered_piece_bytes) {
    pieces.push_back(
        {.iov_base = pinned->address + at,
         .iov_len = std::min<std::uint64_t>(registered_piece_bytes, pinned->length - at)});
  }
  if (pieces.size() <= registered_pieces_max &&
      io_uring_register_buffers(&ring_, pieces.data(), static_cast<unsigned>(pieces.size())) == 0) {
    pinned_ = pinned;
  }
}

/// What a ring does, no filter of system calls sees: it could open files and sockets. From when it
/// is enabled on, it does to this one file what we ask of it. A kernel that refuses leaves it as
/// able as it was.
void ring_queue::restrict_to_needs() noexcept {
  constexpr std::array<std::uint8_t, 8> operations{
      IORING_OP_READV, IORING_OP_WRITEV, IORING_OP_READ_FIXED, IORING_OP_WRITE_FIXED,
      IORING_OP_READ,  IORING_OP_WRITE,  IORING_OP_FSYNC,      IORING_OP_FALLOCATE,
  };
  std::array<io_uring_restriction, operations.size() + 2> all{};
  for (std::size_t i = 0; i < operations.size(); ++i) {
    all[i].opcode = IORING_RESTRICTION_SQE_OP;
    all[i].sqe_op = operations[i];
  }
  all[operations.size()].opcode = IORING_RESTRICTION_REGISTER_OP;
  all[operations.size()].register_op = IORING_REGISTER_EVENTFD;
  all.back().opcode = IORING_RESTRICTION_SQE_FLAGS_REQUIRED;
  all.back().sqe_flags = file_is_registered_ ? IOSQE_FIXED_FILE : 0;
  static_cast<void>(io_uring_register(static_cast<unsigned>(ring_.ring_fd),
                                      IORING_REGISTER_RESTRICTIONS, all.data(), all.size()));
}

ring_queue::~ring_queue() {
  std::array<block_completion, poll_batch> ended;
  // What was never published is unknown to the kernel, and stays so.
  while (transfers_.in_flight() > io_uring_sq_ready(&ring_)) {
    io_uring_cqe* entry = nullptr;
    __kernel_timespec deadline = drain_deadline;
    const int answer = io_uring_wait_cqe_timeout(&ring_, &entry, &deadline);
    if (answer != 0 && answer != -EINTR) {
      break;  // a disk that answers no more, or another core's ring: the kernel cancels the rest
    }
    (void)collect(ended);  // nobody waits for these any more
  }
  if (transfers_.in_flight() > io_uring_sq_ready(&ring_)) {
    transfers_.leave_bounce_memory();
  }
  io_uring_queue_exit(&ring_);
}

void ring_queue::submit(std::span<block_request> requests) noexcept {
  bool room = true;
  for (block_request& request : requests) {
    if (!room) {
      request.state = block_state::refused;
      continue;
    }
    request.status = check_request(file_, request);
    if (request.status != block_status::success) {
      request.state = block_state::done;
      continue;
    }
    transfer* one = transfers_.begin(request);
    room = one != nullptr;
    request.state = room ? block_state::pending : block_state::refused;
    if (room) {
      push(*one);
      if (io_uring_sq_ready(&ring_) >= publish_batch) {
        publish();
      }
    }
  }
}

/// Never short of entries: there is one for each transfer.
void ring_queue::push(transfer& one) noexcept {
  io_uring_sqe* entry = io_uring_get_sqe(&ring_);
  CHECK(entry != nullptr);
  if (one.op == block_op::flush) {
    io_uring_prep_fsync(entry, file_.fd.get(), IORING_FSYNC_DATASYNC);
  } else if (one.op == block_op::write_zeroes || one.op == block_op::deallocate) {
    io_uring_prep_fallocate(entry, file_.fd.get(), one.zero_mode_now(),
                            static_cast<off_t>(one.position), static_cast<off_t>(one.bytes_left));
  } else {
    push_rw(*entry, one);
  }
  if (file_is_registered_) {
    entry->fd = 0;  // the first and only registered file
    entry->flags |= IOSQE_FIXED_FILE;
  }
  io_uring_sqe_set_data(entry, &one);
}

void ring_queue::push_rw(io_uring_sqe& entry, transfer& one) noexcept {
  const bool read = one.op != block_op::write;
  const int fd = file_.fd.get();
  const std::span<const iovec> memory = one.memory();
  const iovec& first = memory.front();
  const auto first_bytes = static_cast<unsigned>(first.iov_len);
  const auto count = static_cast<unsigned>(memory.size());
  if (count > 1) {
    read ? io_uring_prep_readv(&entry, fd, memory.data(), count, one.position)
         : io_uring_prep_writev(&entry, fd, memory.data(), count, one.position);
  } else if (const int piece = registered_piece(first); piece >= 0) {
    read ? io_uring_prep_read_fixed(&entry, fd, first.iov_base, first_bytes, one.position, piece)
         : io_uring_prep_write_fixed(&entry, fd, first.iov_base, first_bytes, one.position, piece);
  } else {
    read ? io_uring_prep_read(&entry, fd, first.iov_base, first_bytes, one.position)
         : io_uring_prep_write(&entry, fd, first.iov_base, first_bytes, one.position);
  }
  entry.rw_flags = one.durable ? RWF_DSYNC : 0;
}

int ring_queue::registered_piece(const iovec& memory) const noexcept {
  const auto* first = static_cast<const std::byte*>(memory.iov_base);
  if (pinned_ == nullptr || !pinned_->contains(first, memory.iov_len)) {
    return -1;
  }
  const auto offset = static_cast<std::uint64_t>(first - pinned_->address);
  const std::uint64_t piece = offset / registered_piece_bytes;
  const bool whole = piece == (offset + memory.iov_len - 1) / registered_piece_bytes;
  return whole ? static_cast<int>(piece) : -1;
}

std::size_t ring_queue::poll(std::span<block_completion> out) noexcept {
  if (transfers_.in_flight() == 0) {
    return 0;
  }
  const std::size_t count = collect(out);
  if (io_uring_sq_ready(&ring_) > 0) {
    publish();  // rests of transfers, and what the kernel had no room for before
  }
  return count;
}

std::size_t ring_queue::collect(std::span<block_completion> out) noexcept {
  std::array<io_uring_cqe*, poll_batch> entries;
  const auto wanted = static_cast<unsigned>(std::min(out.size(), entries.size()));
  const unsigned there = io_uring_peek_batch_cqe(&ring_, entries.data(), wanted);
  std::size_t count = 0;
  for (const io_uring_cqe* entry : std::span{entries}.first(there)) {
    auto& one = *static_cast<transfer*>(io_uring_cqe_get_data(entry));
    const auto ended = one.advance(entry->res, file_.geometry.block_bytes);
    if (!ended) {
      push(one);
      continue;
    }
    const std::uint64_t tag = one.tag;
    out[count++] = {.tag = tag, .status = transfers_.end(one, *ended)};
  }
  io_uring_cq_advance(&ring_, there);
  return count;
}

void ring_queue::flush() noexcept {
  if (io_uring_sq_ready(&ring_) > 0) {
    publish();
  }
}

/// The descriptor of the ring would not do: what is deferred to our own call makes it readable only
/// by that call.
bool ring_queue::arm() noexcept {
  if (io_uring_sq_ready(&ring_) != 0) {
    return false;
  }
  if (transfers_.in_flight() == 0) {
    return true;
  }
  if (!tells_) {
    tells_ = wake_ && io_uring_register_eventfd(&ring_, wake_.get()) == 0;
  }
  armed_ = tells_ && io_uring_cq_eventfd_toggle(&ring_, true) == 0;
  return armed_;
}

/// The kernel may still write for a moment after it was told not to.
void ring_queue::disarm() noexcept {
  if (std::exchange(armed_, false)) {
    CHECK(io_uring_cq_eventfd_toggle(&ring_, false) == 0);  // as before
  }
  if (tells_) {
    eventfd_t ignored = 0;
    (void)eventfd_read(wake_.get(), &ignored);  // it fails when nothing came
  }
}

void ring_queue::publish() noexcept {
  if (!enabled_) {
    // By its number: Debian's liburing 2.3 declares io_uring_enable_rings and does not export it.
    const auto fd = static_cast<unsigned>(ring_.ring_fd);
    CHECK(io_uring_register(fd, IORING_REGISTER_ENABLE_RINGS, nullptr, 0) == 0);
    enabled_ = true;
  }
  const int answer = io_uring_submit_and_get_events(&ring_);
  // Short of memory for now: the entries stay in the ring, and poll() publishes them again.
  // Anything else is a misuse of the ring, such as a second core's.
  CHECK(answer >= 0 || answer == -EAGAIN || answer == -EBUSY || answer == -EINTR ||
        answer == -ENOMEM);
}

}  // namespace runnel::uring
