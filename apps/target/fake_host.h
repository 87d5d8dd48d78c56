#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "apps/target/controller.h"
#include "apps/target/guest_memory.h"
#include "apps/target/interrupt_lines.h"
#include "apps/target/prp_walk.h"
#include "drivers/block.h"
#include "drivers/mmio.h"
#include "drivers/nvme/spec.h"

// For tests: a host without a machine around it. Memory that comes and goes, a disk that finishes
// when it is told to, and a driver that does what a test says, right or wrong.
namespace runnel::target::fake {

/// Host memory at [base, base + bytes), in regions that tests take away and bring back.
class memory final : public guest_memory {
 public:
  static constexpr std::uint64_t base = 0x10'0000'0000;

  explicit memory(std::size_t bytes)
      : arena_{static_cast<std::byte*>(std::aligned_alloc(page_bytes, bytes))} {
    std::memset(arena_.get(), 0, bytes);
  }

  /// @return the region, for `remove`
  const region& add(std::uint64_t first, std::uint64_t bytes,
                    access permissions = access::read_write) {
    regions_.push_back(std::make_unique<region>(
        region{.address = at(first), .length = bytes, .permissions = permissions}));
    return *regions_.back();
  }
  void remove(const region& gone) {
    std::erase_if(regions_, [&](const auto& each) { return each.get() == &gone; });
  }

  [[nodiscard]] std::byte* at(std::uint64_t address) noexcept {
    return arena_.get() + (address - base);
  }

  [[nodiscard]] memory_run run_at(iova first, access wanted) const noexcept override {
    for (const auto& each : regions_) {
      const std::uint64_t begin = base + static_cast<std::uint64_t>(each->address - arena_.get());
      const std::uint64_t offset = raw(first) - begin;
      if (offset < each->length && allows(each->permissions, wanted)) {
        return {each->address + offset, each->length - offset, each.get()};
      }
    }
    return {};
  }

 private:
  struct release {
    void operator()(std::byte* memory) const noexcept { std::free(memory); }
  };
  std::unique_ptr<std::byte, release> arena_;
  std::vector<std::unique_ptr<region>> regions_;
};

/// A disk of 512- or 4096-byte blocks that a test steers.
class disk : public block_device {
 public:
  enum class mode : std::uint8_t { in_place, delayed };

  disk(std::uint32_t block_bytes, std::uint64_t block_count)
      : info_{.address = "fake",
              .block_bytes = block_bytes,
              .block_count = block_count,
              .transfer_bytes_max = 1U << 20U,
              .queue_depth_max = 1024,
              .operations = all_block_operations,
              .deallocated_is_zero = true,
              .volatile_cache = true,
              .note = {}},
        content_(block_bytes * block_count) {}

  mode how = mode::in_place;
  std::uint32_t room = 1U << 20U;               // requests taken from here on; each takes one
  std::size_t may_finish = 1U << 20U;           // delayed requests that may finish from here on
  block_status status = block_status::success;  // of all requests
  std::uint64_t flushes = 0;
  std::uint64_t unflushed_writes = 0;
  std::uint64_t forced_writes = 0;
  std::uint64_t publications = 0;
  std::uint64_t polls = 0;

  [[nodiscard]] std::byte* content(std::uint64_t block) noexcept {
    return content_.data() + block * info_.block_bytes;
  }
  [[nodiscard]] std::size_t waiting() const noexcept { return waiting_.size(); }

  [[nodiscard]] const block_info& info() const noexcept override { return info_; }
  [[nodiscard]] outcome<std::unique_ptr<block_queue>> make_queue(std::uint32_t depth) override {
    return std::make_unique<queue>(*this, depth);
  }

 protected:
  block_info info_;

 private:
  struct waiting_request {
    const block_queue* from;
    block_request request;
    std::vector<segment> segments;
  };

  class queue final : public block_queue {
   public:
    queue(disk& owner, std::uint32_t depth) : owner_{owner}, depth_{depth} {}
    void submit(std::span<block_request> requests) noexcept override {
      for (block_request& request : requests) {
        owner_.start(*this, request);
      }
    }
    std::size_t poll(std::span<block_completion> out) noexcept override {
      ++owner_.polls;
      return owner_.finish(*this, out);
    }
    void flush() noexcept override { ++owner_.publications; }
    [[nodiscard]] bool arm() noexcept override { return owner_.waiting() == 0; }
    [[nodiscard]] std::uint32_t depth() const noexcept override { return depth_; }

   private:
    disk& owner_;
    std::uint32_t depth_;
  };

  void start(const block_queue& from, block_request& request) {
    if (room == 0) {
      request.state = block_state::refused;
      return;
    }
    --room;
    if (request.op == block_op::flush) {
      ++flushes;
      unflushed_writes = 0;
    }
    unflushed_writes += request.op == block_op::write ? 1U : 0U;
    forced_writes += request.force_unit_access ? 1U : 0U;
    const std::span segments{request.segments, request.segment_count};
    if (how == mode::delayed) {
      request.state = block_state::pending;
      waiting_.push_back({&from, request, {segments.begin(), segments.end()}});
      return;
    }
    request.state = block_state::done;
    request.status = execute(request, segments);
  }

  std::size_t finish(const block_queue& whose, std::span<block_completion> out) {
    std::size_t count = 0;
    for (auto each = waiting_.begin();
         each != waiting_.end() && count < out.size() && may_finish != 0;) {
      if (each->from == &whose) {
        out[count++] = {each->request.tag, execute(each->request, each->segments)};
        each = waiting_.erase(each);
        --may_finish;
      } else {
        ++each;
      }
    }
    return count;
  }

  block_status execute(const block_request& request, std::span<const segment> segments) {
    std::byte* place = content_.data() + raw(request.first) * info_.block_bytes;
    if (request.op == block_op::write_zeroes || request.op == block_op::deallocate) {
      std::memset(place, 0, std::size_t{request.blocks} * info_.block_bytes);
    }
    bool equal = true;
    for (const segment& piece : segments) {
      if (request.op == block_op::read) {
        std::memcpy(piece.address, place, piece.length);
      } else if (request.op == block_op::write) {
        std::memcpy(place, piece.address, piece.length);
      } else {
        equal &= std::memcmp(place, piece.address, piece.length) == 0;
      }
      place += piece.length;
    }
    return equal ? status : block_status::compare_failure;
  }

  std::vector<std::byte> content_;
  std::deque<waiting_request> waiting_;
};

/// Counts interrupts by vector, and has the test look at the pin.
class interrupts final : public interrupt_sink {
 public:
  void raise(std::uint16_t vector) noexcept override { ++count[vector]; }
  void look_at_pin() noexcept override {
    if (on_look) {
      on_look();
    }
  }
  std::array<unsigned, queues_max> count{};
  std::function<void()> on_look;
};

}  // namespace runnel::target::fake
