#include <algorithm>
#include <cstring>
#include <utility>

#include "apps/copy/side.h"
#include "mempool/base/bits.h"
#include "mempool/base/check.h"
#include "runtime/io/address.h"

namespace runnel::copy {
namespace {

constexpr std::size_t piece_bytes = 128 * kib;  // of one request
constexpr std::uint32_t queue_depth = 64;

/// Whole blocks of a disk, into or out of memory: one task a piece, all of a chunk at once.
struct transfer {
  io::disk& disk;
  const region& buffers;
  block_op op;
  std::uint64_t first_block;
  std::span<std::byte> data;
  result<> ended;  // the first error
};

task<> move_piece(transfer& all, std::size_t offset, std::size_t length) {
  const lba first = lba{all.first_block + (offset / all.disk.info().block_bytes)};
  const std::span<std::byte> piece = all.data.subspan(offset, length);
  result<> ended;
  if (all.op == block_op::read) {
    ended = co_await all.disk.read(first, piece, all.buffers);
  } else {
    ended = co_await all.disk.write(first, piece, all.buffers);
  }
  if (!ended && all.ended) {
    all.ended = ended;
  }
}

task<result<>> move_all(transfer& all, reactor& core) {
  const std::size_t piece = std::min<std::size_t>(
      piece_bytes, align_down(all.disk.info().transfer_bytes_max, all.disk.info().block_bytes));
  gate pieces{core};
  for (std::size_t offset = 0; offset < all.data.size(); offset += piece) {
    pieces.spawn(move_piece(all, offset, std::min(piece, all.data.size() - offset)), "copy piece");
  }
  co_await pieces.close();
  co_return all.ended;
}

task<result<>> flush_disk(io::disk& disk) {
  const result<> ended = co_await disk.flush();
  co_return ended;
}

class disk_side final : public side {
 public:
  disk_side(engine& host, io::shared_device& device, const region& buffers)
      : host_{host}, device_{device}, disk_{device.on(0)}, buffers_{buffers} {}

  ~disk_side() override { static_cast<void>(end_write()); }  // an earlier error is being reported

  disk_side(const disk_side&) = delete;
  disk_side& operator=(const disk_side&) = delete;

  [[nodiscard]] std::optional<std::uint64_t> size() const override { return bytes(); }
  [[nodiscard]] std::optional<std::uint64_t> room() const override { return bytes(); }

  outcome<std::size_t> read(std::span<std::byte> chunk) override {
    const std::size_t count = std::min<std::uint64_t>(chunk.size(), bytes() - position_);
    if (count != 0) {
      if (auto done = start(block_op::read, chunk.first(count)).get(); !done) {
        return refuse("read", done.error());
      }
    }
    position_ += count;
    return count;
  }

  outcome<> write(std::span<std::byte> chunk) override {
    if (auto previous = end_write(); !previous) {
      return previous;
    }
    if (chunk.size() > bytes() - position_) {
      return fail({errc::invalid}, "write to", disk_.info().address,
                  "it is full after " + std::to_string(bytes()) + " bytes and more are coming");
    }
    const std::size_t whole = align_down(chunk.size(), disk_.info().block_bytes);
    std::span<std::byte> to_write = chunk;
    if (whole != chunk.size()) {
      auto completed = complete_last_block(chunk);
      if (!completed) {
        return std::unexpected{completed.error()};
      }
      to_write = *completed;
    }
    write_.emplace(start_write(to_write));
    position_ += chunk.size();
    return {};
  }

  outcome<> finish() override {
    if (auto last = end_write(); !last) {
      return last;
    }
    auto flushed = host_.run(0, [&disk = disk_](reactor&) { return flush_disk(disk); });
    return flushed ? outcome<>{} : refuse("flush", flushed.error());
  }

 private:
  [[nodiscard]] std::uint64_t bytes() const noexcept {
    return disk_.info().block_count * disk_.info().block_bytes;
  }
  running<result<>> start(block_op op, std::span<std::byte> data) {
    transfer_.emplace(disk_, buffers_, op, position_ / disk_.info().block_bytes, data, result<>{});
    return host_.start(0, [this](reactor& core) { return move_all(*transfer_, core); });
  }
  running<result<>> start_write(std::span<std::byte> data) { return start(block_op::write, data); }

  /// Reads what the last block holds behind the data, which must not be lost. The chunk's memory
  /// goes on for at least a block behind it.
  outcome<std::span<std::byte>> complete_last_block(std::span<std::byte> chunk) {
    const std::size_t block = disk_.info().block_bytes;
    const std::size_t whole = align_down(chunk.size(), block);
    const std::size_t tail = chunk.size() - whole;
    std::vector<std::byte> kept(chunk.begin() + static_cast<std::ptrdiff_t>(whole), chunk.end());
    const std::span<std::byte> last{chunk.data() + whole, block};
    position_ += whole;
    const auto read_back = start(block_op::read, last).get();
    position_ -= whole;
    if (!read_back) {
      return refuse("read", read_back.error());
    }
    std::memcpy(last.data(), kept.data(), tail);
    return std::span{chunk.data(), whole + block};
  }

  outcome<> end_write() {
    if (write_) {
      const result<> ended = write_->get();
      write_.reset();
      if (!ended) {
        return refuse("write to", ended.error());
      }
    }
    return {};
  }

  [[nodiscard]] std::unexpected<failure> refuse(const char* operation, error what) const {
    return fail(what, operation, disk_.info().address, host_.mishap_of(device_));
  }

  engine& host_;
  io::shared_device& device_;
  io::disk& disk_;
  const region& buffers_;
  std::uint64_t position_ = 0;
  std::optional<transfer> transfer_;
  std::optional<running<result<>>> write_;
};

}  // namespace

outcome<std::unique_ptr<side>> open_disk_side(engine& host, const std::string& address,
                                              const region& buffers, bool to_write) {
  const auto where = io::parse_address(address);
  if (!where) {
    return std::unexpected{where.error()};
  }
  const auto device = host.open(*where, {.queue_depth = queue_depth, .read_only = !to_write});
  if (!device) {
    return std::unexpected{device.error()};
  }
  return std::make_unique<disk_side>(host, **device, buffers);
}

}  // namespace runnel::copy
