#include "drivers/uring/transfer.h"

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "mempool/base/bits.h"
#include "mempool/base/check.h"

namespace runnel::uring {
namespace {

/// Interrupted or told to come again this often in a row, a request fails.
constexpr std::uint8_t attempts_max = 16;

block_status status_of(block_op op, int errno_value) noexcept {
  switch (errno_value) {
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
      return block_status::capacity_exceeded;
    case EROFS:
    case EPERM:
      return block_status::write_protected;
    case ENODEV:
    case ENXIO:
    case ESHUTDOWN:
      return block_status::device_gone;
    case EFAULT:
      return block_status::data_transfer_error;
    case ECANCELED:
      return block_status::aborted;
    case EIO:
    case EILSEQ:
    case ENODATA:
      return changes_data(op) || op == block_op::flush ? block_status::write_fault
                                                       : block_status::unrecovered_read_error;
    default:
      return block_status::internal_error;
  }
}

bool adjoins(const iovec& before, const std::byte* address) noexcept {
  return static_cast<const std::byte*>(before.iov_base) + before.iov_len == address;
}

/// The segments as vectors, neighbours merged. @return how many; at most `segments.size()`
std::size_t merge(std::span<const segment> segments, iovec* vectors) noexcept {
  std::size_t count = 0;
  for (const segment& piece : segments) {
    if (piece.length == 0) {
      continue;
    }
    if (count > 0 && adjoins(vectors[count - 1], piece.address)) {
      vectors[count - 1].iov_len += piece.length;
    } else {
      vectors[count++] = {.iov_base = piece.address, .iov_len = piece.length};
    }
  }
  return count;
}

}  // namespace

void free_deleter::operator()(std::byte* memory) const noexcept {
  std::free(memory);
}

aligned_memory allocate_aligned(std::size_t bytes) {
  auto* memory =
      static_cast<std::byte*>(std::aligned_alloc(page_bytes, align_up(bytes, page_bytes)));
  CHECK(memory != nullptr);
  return aligned_memory{memory};
}

std::span<const iovec> transfer::memory() noexcept {
  if (bounce == nullptr) {
    return vectors;
  }
  through_bounce_ = {.iov_base = bounce + bounce_done,
                     .iov_len = std::min<std::uint64_t>(bytes_left, transfer_bytes_max)};
  return {&through_bounce_, 1};
}

std::optional<block_status> transfer::advance(std::int64_t answer,
                                              std::uint32_t block_bytes) noexcept {
  if (answer < 0) {
    return advance_failed(static_cast<int>(-answer));
  }
  if (is_zeroing() && durable) {
    op = block_op::flush;
    attempts = 0;
    return std::nullopt;
  }
  if (is_zeroing() || op == block_op::flush) {
    return block_status::success;  // these are done whole
  }
  const auto done = static_cast<std::uint64_t>(answer);
  CHECK(done <= bytes_left);
  if (done == bytes_left) {
    return block_status::success;
  }
  // Part of a block is done again, because O_DIRECT could not go on from its middle.
  const std::uint64_t whole_blocks = align_down(done, block_bytes);
  if (whole_blocks == 0) {  // the file has become shorter, or its disk is full
    return status_of(op, changes_data(op) ? ENOSPC : EIO);
  }
  attempts = 0;
  skip(whole_blocks);
  return std::nullopt;
}

std::optional<block_status> transfer::advance_failed(int errno_value) noexcept {
  const bool again = errno_value == EINTR || errno_value == EAGAIN;
  if (again && ++attempts < attempts_max) {
    return std::nullopt;
  }
  if (errno_value == EOPNOTSUPP && is_zeroing() && !other_zero_mode) {
    other_zero_mode = true;
    return std::nullopt;
  }
  return status_of(op, errno_value);
}

void transfer::skip(std::uint64_t bytes) noexcept {
  position += bytes;
  bytes_left -= bytes;
  if (op == block_op::verify) {
    return;  // what was read is of no use; the rest is read over it
  }
  if (bounce != nullptr) {
    bounce_done += bytes;
    return;
  }
  while (bytes > 0) {
    iovec& front = vectors.front();
    const std::size_t here = std::min<std::uint64_t>(bytes, front.iov_len);
    front.iov_base = static_cast<std::byte*>(front.iov_base) + here;
    front.iov_len -= here;
    bytes -= here;
    if (front.iov_len == 0) {
      vectors = vectors.subspan(1);
    }
  }
}

transfer_table::transfer_table(const opened_file& file, std::uint32_t depth)
    : block_bytes_{file.geometry.block_bytes},
      direct_{file.direct},
      memory_alignment_{file.memory_alignment},
      length_alignment_{file.length_alignment},
      transfers_(depth),
      vectors_{std::make_unique_for_overwrite<iovec[]>(std::size_t{depth} * segments_max)} {
  free_.reserve(depth);
  for (std::size_t i = transfers_.size(); i > 0; --i) {
    free_.push_back(&transfers_[i - 1]);
  }
  const std::size_t count = std::min<std::size_t>(depth, bounces_max);
  bounce_memory_ = allocate_aligned(count * transfer_bytes_max);
  for (std::size_t i = 0; i < count; ++i) {
    free_bounces_.push_back(bounce_memory_.get() + i * transfer_bytes_max);
  }
}

bool transfer_table::needs_bounce(block_op op, std::span<const iovec> vectors) const noexcept {
  if (op == block_op::compare || op == block_op::verify) {
    return true;
  }
  if (!direct_) {
    return false;
  }
  return std::ranges::any_of(vectors, [this](const iovec& part) {
    return !is_aligned(reinterpret_cast<std::uintptr_t>(part.iov_base), memory_alignment_) ||
           !is_aligned(part.iov_len, length_alignment_);
  });
}

transfer* transfer_table::begin(const block_request& request) noexcept {
  if (free_.empty()) {
    return nullptr;
  }
  CHECK(request.segment_count <= segments_max);
  transfer& begun = *free_.back();
  iovec* vectors = vectors_.get() + (&begun - transfers_.data()) * segments_max;
  const std::size_t count = merge({request.segments, request.segment_count}, vectors);
  const bool bounced = needs_bounce(request.op, {vectors, count});
  if (bounced && free_bounces_.empty()) {
    return nullptr;
  }
  begun = transfer{};
  begun.tag = request.tag;
  begun.position = raw(request.first) * block_bytes_;
  begun.bytes_left = std::uint64_t{request.blocks} * block_bytes_;
  begun.vectors = {vectors, count};
  begun.op = request.op;
  begun.durable = changes_data(request.op) && request.force_unit_access;
  free_.pop_back();
  if (bounced) {
    begun.bounce = free_bounces_.back();
    free_bounces_.pop_back();
    if (request.op == block_op::write) {
      std::byte* to = begun.bounce;
      for (const iovec& part : begun.vectors) {
        std::memcpy(to, part.iov_base, part.iov_len);
        to += part.iov_len;
        bytes_copied_ += part.iov_len;
      }
    }
  }
  return &begun;
}

block_status transfer_table::end(transfer& ended, block_status status) noexcept {
  if (ended.bounce != nullptr) {
    const std::byte* from = ended.bounce;
    if (ended.op == block_op::read && status == block_status::success) {
      for (const iovec& part : ended.vectors) {
        std::memcpy(part.iov_base, from, part.iov_len);
        from += part.iov_len;
        bytes_copied_ += part.iov_len;
      }
    } else if (ended.op == block_op::compare && status == block_status::success) {
      for (const iovec& part : ended.vectors) {
        if (std::memcmp(part.iov_base, from, part.iov_len) != 0) {
          status = block_status::compare_failure;
          break;
        }
        from += part.iov_len;
      }
    }
    free_bounces_.push_back(ended.bounce);
  }
  free_.push_back(&ended);
  return status;
}

}  // namespace runnel::uring
