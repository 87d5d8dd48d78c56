#pragma once

#include <concepts>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>

#include "drivers/block.h"
#include "drivers/block_check.h"
#include "mempool/base/bits.h"
#include "mempool/base/check.h"
#include "mempool/base/error.h"
#include "mempool/base/units.h"

// A disk whose requests finish during submit. What differs between such disks is the medium.
namespace runnel::soft {

inline constexpr std::uint32_t in_place_transfer_bytes_max = 4 * mib;
inline constexpr std::uint32_t in_place_depth_max =
    65536;  // a number for callers: none is in flight
inline constexpr std::uint32_t in_place_queues_max = 65535;

/// What moves the bytes. Requests were checked; flushes do not reach it, for it is never volatile.
/// Reads and writes go one way, the rarer operations another.
template <class M>
concept in_place_medium = requires(M& medium, const block_request& request) {
  // @param next  prepared, and executed right after this one; null: nothing is
  // @return bytes that were copied
  { medium.execute(request, &request) } noexcept -> std::same_as<std::uint64_t>;
  { medium.execute_rare(request) } noexcept -> std::same_as<block_status>;
  { medium.publish() } noexcept;  // end of a burst: all of it is visible to other cores
};

/// One that gains by seeing all of a burst before it executes the first; others do better in one
/// pass.
template <class M>
concept looks_ahead = requires(M& medium, const block_request& request) {
  { medium.prepare(request) } noexcept;  // it is executed soon, in this burst
};

template <in_place_medium Medium>
class alignas(cache_line_bytes) in_place_queue final : public block_queue {
 public:
  in_place_queue(Medium& medium, const block_geometry& geometry, std::uint32_t depth) noexcept
      : medium_{medium}, geometry_{geometry}, depth_{depth} {}

  void submit(std::span<block_request> requests) noexcept override {
    if constexpr (looks_ahead<Medium>) {
      for (block_request& request : requests) {
        request.status = check_request(geometry_, request);
        if (is_transfer(request)) {
          medium_.prepare(request);
        }
      }
    }
    for (std::size_t i = 0; i < requests.size(); ++i) {
      block_request& request = requests[i];
      if constexpr (!looks_ahead<Medium>) {
        request.status = check_request(geometry_, request);
      }
      if (is_transfer(request)) {
        const bool goes_on =
            looks_ahead<Medium> && i + 1 < requests.size() && is_transfer(requests[i + 1]);
        bytes_copied_ += medium_.execute(request, goes_on ? &requests[i + 1] : nullptr);
      } else if (request.status == block_status::success && request.op != block_op::flush) {
        request.status = medium_.execute_rare(request);
      }
      request.state = block_state::done;
    }
    medium_.publish();
  }

  std::size_t poll(std::span<block_completion>) noexcept override { return 0; }
  void flush() noexcept override {}
  [[nodiscard]] bool arm() noexcept override { return true; }
  [[nodiscard]] std::uint32_t depth() const noexcept override { return depth_; }
  [[nodiscard]] std::uint64_t bytes_copied() const noexcept override { return bytes_copied_; }

 private:
  /// @pre it was checked
  static bool is_transfer(const block_request& request) noexcept {
    return request.status == block_status::success &&
           (request.op == block_op::read || request.op == block_op::write);
  }

  Medium& medium_;
  block_geometry geometry_;
  std::uint32_t depth_;
  std::uint64_t bytes_copied_ = 0;
};

template <in_place_medium Medium>
class in_place_device final : public block_device {
 public:
  /// @pre check_disk_size(address, bytes, block_bytes)
  in_place_device(std::string address, std::uint64_t bytes, std::uint32_t block_bytes,
                  Medium medium)
      : info_{.address = std::move(address),
              .block_bytes = block_bytes,
              .block_count = bytes / block_bytes,
              .transfer_bytes_max = in_place_transfer_bytes_max,
              .queue_depth_max = in_place_depth_max,
              .queue_count_max = in_place_queues_max,
              .operations = all_block_operations,
              .deallocated_is_zero = true,
              .note = {}},
        medium_{std::move(medium)} {}

  [[nodiscard]] const block_info& info() const noexcept override { return info_; }

  [[nodiscard]] outcome<std::unique_ptr<block_queue>> make_queue(std::uint32_t depth) override {
    if (auto fits = check_depth(info_, depth); !fits) {
      return std::unexpected{std::move(fits.error())};
    }
    const block_geometry geometry{.block_bytes = info_.block_bytes,
                                  .transfer_bytes_max = info_.transfer_bytes_max,
                                  .block_count = info_.block_count,
                                  .operations = info_.operations};
    return std::make_unique<in_place_queue<Medium>>(medium_, geometry, depth);
  }

 private:
  block_info info_;
  Medium medium_;
};

}  // namespace runnel::soft
