#include "drivers/soft/ram.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>
#include <span>
#include <utility>

#include "drivers/block_check.h"
#include "drivers/soft/copy.h"
#include "drivers/soft/in_place.h"
#include "mempool/base/clock.h"
#include "mempool/base/prefetch.h"
#include "mempool/private_memory.h"

namespace runnel::soft {
namespace {

/// Whether streaming stores fill this memory faster than cached ones. Processors differ by a third
/// in either direction, so it is measured: blocks at scattered places, both ways in turns, best of
/// each.
/// @pre the memory is all zero; it stays so
bool streaming_is_faster(std::span<std::byte> memory) noexcept {
  constexpr std::size_t block_bytes = 4096;
  constexpr int rounds = 16;
  constexpr int blocks_per_round = 64;
  constexpr std::uint64_t stride = 0x9e37'79b9'7f4a'7c15;  // scatters: an odd number near 2^64/phi
  if (memory.size() < block_bytes) {
    return false;
  }
  alignas(cache_line_bytes) constexpr std::array<std::byte, block_bytes> zeros{};
  const std::uint64_t block_count = memory.size() / block_bytes;
  std::array<std::uint64_t, 2> best{~std::uint64_t{0}, ~std::uint64_t{0}};
  std::uint64_t scatter = 0;
  for (int round = 0; round < rounds; ++round) {
    const bool streaming = round % 2 == 1;
    const std::uint64_t start = tsc_now();
    for (int i = 0; i < blocks_per_round; ++i) {
      scatter += stride;
      std::byte* block = memory.data() + (scatter >> 20U) % block_count * block_bytes;
      (streaming ? copy_streaming : copy_cached)(block, zeros.data(), block_bytes);
    }
    finish_streaming();
    std::uint64_t& cycles = best[streaming ? 1 : 0];
    cycles = std::min(cycles, tsc_now() - start);
  }
  return best[1] < best[0];
}

/// Bytes of one process's memory as a medium. Ends of requests lie inside it: they were checked.
class ram_medium {
 public:
  ram_medium(private_memory memory, std::uint32_t block_bytes) noexcept
      : memory_{std::move(memory)},
        block_bytes_{block_bytes},
        stream_{streaming_is_faster(memory_.bytes())} {}

  /// Finding a page takes longer than a line of it to come: the pages of a burst are found
  /// together.
  void prepare(const block_request& request) noexcept { prefetch_to_read(at(request.first)); }

  std::uint64_t execute(const block_request& request, const block_request* next) noexcept {
    const bool alike = next != nullptr && next->op == request.op;
    const std::byte* after = alike ? at(next->first) : nullptr;
    if (request.op == block_op::read) {
      read(request, after);
    } else {
      write(request, after);
    }
    return std::uint64_t{request.blocks} * block_bytes_;
  }

  [[gnu::noinline]] block_status execute_rare(const block_request& request) noexcept {
    switch (request.op) {
      case block_op::compare:
        return equals(request) ? block_status::success : block_status::compare_failure;
      case block_op::write_zeroes:
      case block_op::deallocate:
        // Pages that were given back to the system would be missed at the next write.
        std::memset(at(request.first), 0, std::size_t{request.blocks} * block_bytes_);
        return block_status::success;
      case block_op::verify:
        return block_status::success;  // memory has no state in which it cannot be read
      case block_op::read:
      case block_op::write:
      case block_op::flush:
        break;
    }
    return block_status::invalid_opcode;
  }

  void publish() noexcept {
    if (stream_) {
      finish_streaming();
    }
  }

 private:
  /// @param after  where the next request reads; null: there is none
  void read(const block_request& request, const std::byte* after) noexcept {
    const std::byte* place = at(request.first);
    for (std::uint32_t i = 0; i < request.segment_count; ++i) {
      const segment& piece = request.segments[i];
      const std::byte* end = place + piece.length;
      copy_cold(piece.address, place, piece.length, i + 1 < request.segment_count ? end : after);
      place = end;
    }
  }
  void write(const block_request& request, const std::byte* after) noexcept {
    if (!stream_ && after != nullptr) {
      prefetch_block_to_write(after);
    }
    std::byte* place = at(request.first);
    for (const segment& piece : std::span{request.segments, request.segment_count}) {
      (stream_ ? copy_streaming : copy_cached)(place, piece.address, piece.length);
      place += piece.length;
    }
  }
  [[nodiscard]] bool equals(const block_request& request) const noexcept {
    const std::byte* place = at(request.first);
    for (const segment& piece : std::span{request.segments, request.segment_count}) {
      if (std::memcmp(piece.address, place, piece.length) != 0) {
        return false;
      }
      place += piece.length;
    }
    return true;
  }
  [[nodiscard]] std::byte* at(lba first) const noexcept {
    return memory_.bytes().data() + raw(first) * block_bytes_;
  }

  private_memory memory_;
  std::uint32_t block_bytes_;
  bool stream_;
};

}  // namespace

outcome<std::unique_ptr<block_device>> open_ram(std::string address, std::uint64_t bytes,
                                                std::uint32_t block_bytes) {
  if (auto fits = check_disk_size(address, bytes, block_bytes); !fits) {
    return std::unexpected{std::move(fits.error())};
  }
  auto memory = private_memory::create(bytes);
  if (!memory) {
    memory.error().object = address;
    memory.error().operation = "open";
    return std::unexpected{std::move(memory.error())};
  }
  return std::make_unique<in_place_device<ram_medium>>(std::move(address), bytes, block_bytes,
                                                       ram_medium{std::move(*memory), block_bytes});
}

}  // namespace runnel::soft
