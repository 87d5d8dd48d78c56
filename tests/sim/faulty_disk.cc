#include "tests/sim/faulty_disk.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "mempool/base/check.h"

namespace runnel::sim {
namespace {

std::vector<std::byte> gather(std::span<const segment> segments, std::size_t bytes) {
  std::vector<std::byte> all;
  for (const segment& piece : segments) {
    all.insert(all.end(), piece.address, piece.address + piece.length);
  }
  all.resize(bytes);  // operations without data bring zeros
  return all;
}

}  // namespace

class faulty_disk::queue final : public block_queue {
 public:
  queue(faulty_disk& owner, std::uint32_t depth) noexcept : owner_{owner}, depth_{depth} {}
  queue(const queue&) = delete;
  queue& operator=(const queue&) = delete;
  ~queue() override { CHECK(in_flight == 0); }

  void submit(std::span<block_request> requests) noexcept override {
    bool room = true;
    for (block_request& request : requests) {
      room = room && in_flight < depth_ && owner_.start(*this, request);
      if (!room) {
        request.state = block_state::refused;
      }
    }
  }
  std::size_t poll(std::span<block_completion> out) noexcept override {
    return owner_.finish(*this, out);
  }
  void flush() noexcept override {}
  [[nodiscard]] std::uint32_t depth() const noexcept override { return depth_; }

  std::uint32_t in_flight = 0;

 private:
  faulty_disk& owner_;
  std::uint32_t depth_;
};

faulty_disk::faulty_disk(const faulty_disk_options& options, std::vector<std::byte> content)
    : options_{options},
      info_{.address = "faulty",
            .block_bytes = options.block_bytes,
            .block_count = options.block_count,
            .transfer_bytes_max = 1U << 20U,
            .queue_depth_max = 1024,
            .queue_count_max = 64,
            .operations = all_block_operations,
            .deallocated_is_zero = true,
            .volatile_cache = true,
            .note = {}},
      geometry_{.block_bytes = options.block_bytes,
                .transfer_bytes_max = info_.transfer_bytes_max,
                .block_count = options.block_count,
                .operations = info_.operations},
      random_{options.seed},
      blocks_{options.block_bytes,
              content.empty() ? std::vector<std::byte>(options.block_bytes * options.block_count)
                              : std::move(content)} {}

outcome<std::unique_ptr<block_queue>> faulty_disk::make_queue(std::uint32_t depth) {
  return std::make_unique<queue>(*this, depth);
}

/// False: no room.
bool faulty_disk::start(queue& from, block_request& request) {
  if (chance(options_.refused)) {
    ++refusals;
    return false;
  }
  const std::span segments{request.segments, request.segment_count};
  request.status = check_request(geometry_, request);
  request.state = block_state::done;
  if (request.status != block_status::success) {
    return true;
  }
  if (!chance(options_.late)) {
    request.status = execute(request, segments, now_);
    return true;
  }
  ++late_ones;
  ++from.in_flight;
  request.state = block_state::pending;
  pending_.push_back({.from = &from,
                      .request = request,
                      .segments = {segments.begin(), segments.end()},
                      .submitted = now_,
                      .polls_left = random_.below(options_.polls_max)});
  return true;
}

std::size_t faulty_disk::finish(queue& of, std::span<block_completion> out) {
  std::size_t count = 0;
  for (std::size_t i = 0; i < pending_.size() && count < out.size();) {
    pending& each = pending_[i];
    if (each.from != &of) {
      ++i;
      continue;
    }
    if (each.polls_left != 0) {
      --each.polls_left;
      ++i;
      continue;
    }
    out[count++] = {each.request.tag, execute(each.request, each.segments, each.submitted)};
    --of.in_flight;
    pending_.erase(pending_.begin() + static_cast<std::ptrdiff_t>(i));
  }
  return count;
}

block_status faulty_disk::execute(const block_request& request, std::span<const segment> segments,
                                  std::uint64_t submitted) {
  ++now_;
  const bool failing = chance(options_.failing);
  failures += failing ? 1U : 0U;
  if (changes_data(request.op)) {
    write(blocks_, request, segments, failing);
    return failing ? block_status::write_fault : block_status::success;
  }
  if (failing) {
    return request.op == block_op::flush ? block_status::write_fault
                                         : block_status::unrecovered_read_error;
  }
  if (request.op == block_op::flush && !options_.flush_does_nothing) {
    blocks_.flush(submitted);
  } else if (request.op == block_op::read) {
    read(request, segments);
  } else if (request.op == block_op::compare && !equals(request, segments)) {
    return block_status::compare_failure;
  }
  return block_status::success;
}

/// @param failing  some blocks are not written, and none is forced
void faulty_disk::write(volatile_blocks& to, const block_request& request,
                        std::span<const segment> segments, bool failing) {
  const std::vector<std::byte> data =
      gather(segments, std::size_t{request.blocks} * options_.block_bytes);
  const bool forced = request.force_unit_access && !options_.force_does_nothing && !failing;
  for (std::uint32_t i = 0; i < request.blocks; ++i) {
    const std::span part =
        std::span{data}.subspan(std::size_t{i} * options_.block_bytes, options_.block_bytes);
    if (forced) {
      to.store_durably(raw(request.first) + i, part);
    } else if (!failing || chance(128)) {
      to.store(raw(request.first) + i, {part.begin(), part.end()}, now_);
    }
  }
}

void faulty_disk::read(const block_request& request, std::span<const segment> segments) const {
  std::vector<std::byte> data;
  for (std::uint32_t i = 0; i < request.blocks; ++i) {
    const std::span part = block(raw(request.first) + i);
    data.insert(data.end(), part.begin(), part.end());
  }
  const std::byte* from = data.data();
  for (const segment& piece : segments) {
    std::memcpy(piece.address, from, piece.length);
    from += piece.length;
  }
}

bool faulty_disk::equals(const block_request& request, std::span<const segment> segments) const {
  const std::vector<std::byte> data =
      gather(segments, std::size_t{request.blocks} * options_.block_bytes);
  for (std::uint32_t i = 0; i < request.blocks; ++i) {
    const std::span part =
        std::span{data}.subspan(std::size_t{i} * options_.block_bytes, options_.block_bytes);
    if (!std::ranges::equal(part, block(raw(request.first) + i))) {
      return false;
    }
  }
  return true;
}

std::vector<std::byte> faulty_disk::crash() {
  volatile_blocks left = blocks_;
  for (const pending& each : pending_) {
    if (changes_data(each.request.op) && chance(128)) {
      write(left, each.request, each.segments, true);
    }
  }
  const volatile_blocks::loss now = left.lose_power(random_, options_.sector_bytes);
  lost.dropped += now.dropped;
  lost.torn += now.torn;
  return left.durable();
}

}  // namespace runnel::sim
