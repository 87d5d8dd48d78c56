// A target whose disk lies: of 10,000 writes it drops one, exchanges it with the one before, or
// carries out half of it, and says that all went well. Serves until SIGTERM.
// usage: lying_target drop|swap|tear SOCKET

#include <signal.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstring>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

#include "apps/target/target.h"
#include "drivers/soft/ram.h"
#include "runtime/engine.h"

namespace runnel {
namespace {

constexpr std::uint64_t writes_per_lie = 10'000;
constexpr std::uint64_t disk_bytes = 16 * mib;
constexpr std::size_t segments_max = 64;
constexpr std::size_t remembered_max = 64 * kib;

enum class lie : std::uint8_t { drop, swap, tear };

/// A queue to a disk that finishes in place, with lies in between.
class lying_queue final : public block_queue {
 public:
  lying_queue(std::unique_ptr<block_queue> honest, std::uint32_t block_bytes, lie kind)
      : honest_{std::move(honest)}, block_bytes_{block_bytes}, kind_{kind} {}

  void submit(std::span<block_request> requests) noexcept override {
    for (block_request& request : requests) {
      if (request.op != block_op::write) {
        honest_->submit({&request, 1});
        continue;
      }
      if (++writes_ % writes_per_lie == 0) {
        tell_lie(request);
      } else {
        honest_->submit({&request, 1});
      }
      remember(request);
    }
  }
  std::size_t poll(std::span<block_completion> out) noexcept override { return honest_->poll(out); }
  void flush() noexcept override { honest_->flush(); }
  [[nodiscard]] std::uint32_t depth() const noexcept override { return honest_->depth(); }

 private:
  void tell_lie(block_request& request) noexcept {
    if (kind_ == lie::tear) {
      write_half(request);
    } else if (kind_ == lie::swap && before_.blocks == request.blocks) {
      block_request exchanged = request;
      exchanged.first = before_.first;
      honest_->submit({&exchanged, 1});
      const segment old{.address = data_before_.data(),
                        .length = std::size_t{before_.blocks} * block_bytes_};
      before_.segments = &old;
      before_.segment_count = 1;
      before_.first = request.first;
      honest_->submit({&before_, 1});
    }
    request.state = block_state::done;
    request.status = block_status::success;
  }

  void write_half(const block_request& request) noexcept {
    block_request half = request;
    half.blocks = request.blocks / 2;
    std::array<segment, segments_max> segments;
    std::size_t left = std::size_t{half.blocks} * block_bytes_;
    half.segments = segments.data();
    half.segment_count = 0;
    for (const segment& piece : std::span{request.segments, request.segment_count}) {
      if (left != 0 && half.segment_count < segments_max) {
        segment& part = segments[half.segment_count++];
        part = piece;
        part.length = std::min(piece.length, left);
        left -= part.length;
      }
    }
    honest_->submit({&half, 1});
  }

  void remember(const block_request& request) noexcept {
    before_ = request;
    std::size_t at = 0;
    for (const segment& piece : std::span{request.segments, request.segment_count}) {
      const std::size_t bytes = std::min(piece.length, data_before_.size() - at);
      std::memcpy(data_before_.data() + at, piece.address, bytes);
      at += bytes;
    }
  }

  std::unique_ptr<block_queue> honest_;
  std::uint32_t block_bytes_;
  lie kind_;
  std::uint64_t writes_ = 0;
  block_request before_;  // the last write, and its data
  std::array<std::byte, remembered_max> data_before_{};
};

class lying_disk final : public block_device {
 public:
  lying_disk(std::unique_ptr<block_device> honest, lie kind)
      : honest_{std::move(honest)}, kind_{kind} {}

  [[nodiscard]] const block_info& info() const noexcept override { return honest_->info(); }
  [[nodiscard]] outcome<std::unique_ptr<block_queue>> make_queue(std::uint32_t depth) override {
    auto made = honest_->make_queue(depth);
    if (!made) {
      return std::unexpected{made.error()};
    }
    return std::make_unique<lying_queue>(std::move(*made), info().block_bytes, kind_);
  }

 private:
  std::unique_ptr<block_device> honest_;
  lie kind_;
};

int complain(const failure& why) {
  std::fprintf(stderr, "lying_target: %s\n", why.message().c_str());
  return 1;
}

int serve(lie kind, const char* socket) {
  sigset_t ends;
  sigemptyset(&ends);
  sigaddset(&ends, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &ends, nullptr);  // before there are threads
  const auto host = engine::create({});
  auto disk = soft::open_ram("ram:", disk_bytes, 512);
  if (!host || !disk) {
    return complain(host ? disk.error() : host.error());
  }
  target::target_options wanted;
  wanted.listeners = {socket};
  std::vector<target::served_device> devices(1);
  devices.front().device =
      io::device_pointer{std::make_unique<lying_disk>(std::move(*disk), kind).release()};
  const auto server = target::target::create(**host, wanted, std::move(devices));
  if (!server) {
    return complain(server.error());
  }
  if (const auto started = (*server)->start(); !started) {
    return complain(started.error());
  }
  std::puts("ready");
  std::fflush(stdout);
  int which = 0;
  sigwait(&ends, &which);
  const auto stopped = (*server)->stop();
  return stopped ? 0 : complain(stopped.error());
}

}  // namespace
}  // namespace runnel

int main(int count, char** words) {
  using runnel::lie;
  constexpr std::array<std::pair<std::string_view, lie>, 3> kinds{
      {{"drop", lie::drop}, {"swap", lie::swap}, {"tear", lie::tear}}};
  for (const auto& [name, kind] : kinds) {
    if (count == 3 && name == words[1]) {
      return runnel::serve(kind, words[2]);
    }
  }
  std::fputs("usage: lying_target drop|swap|tear SOCKET\n", stderr);
  return 2;
}
