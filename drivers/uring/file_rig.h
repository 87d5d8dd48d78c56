#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <tuple>
#include <vector>

#include "drivers/uring/file.h"
#include "mempool/base/unique_fd.h"

// For tests: temporary files as disks, and requests to them carried out to their ends.
namespace runnel::uring {

using bytes = std::vector<std::byte>;

inline bytes random_bytes(std::size_t count, std::mt19937& random) {
  bytes made(count);
  for (std::byte& one : made) {
    one = static_cast<std::byte>(random());
  }
  return made;
}

/// A file of its own in a folder of its own, gone with the test.
class temporary_file {
 public:
  explicit temporary_file(std::uint64_t size) {
    EXPECT_NE(mkdtemp(folder_.data()), nullptr);
    path_ = folder_ + "/disk.img";
    fd_.reset(open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    resize(size);
  }
  temporary_file(const temporary_file&) = delete;
  temporary_file& operator=(const temporary_file&) = delete;
  ~temporary_file() {
    unlink(path_.c_str());
    rmdir(folder_.c_str());
  }

  void resize(std::uint64_t size) { EXPECT_EQ(ftruncate(fd_.get(), static_cast<off_t>(size)), 0); }
  void write(const bytes& data) {
    EXPECT_EQ(pwrite(fd_.get(), data.data(), data.size(), 0), static_cast<ssize_t>(data.size()));
    EXPECT_EQ(fsync(fd_.get()), 0);
  }
  [[nodiscard]] bytes read(std::size_t count) const {
    bytes data(count);
    EXPECT_EQ(pread(fd_.get(), data.data(), count, 0), static_cast<ssize_t>(count));
    return data;
  }
  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] const std::string& folder() const { return folder_; }

 private:
  std::string folder_ = testing::TempDir() + "runnel-file-XXXXXX";
  std::string path_;
  unique_fd fd_;
};

inline std::unique_ptr<block_device> open_disk(const temporary_file& file,
                                               const file_options& options) {
  auto made = open_file("file:" + file.path(), file.path(), options);
  EXPECT_TRUE(made) << made.error().message();
  return std::move(*made);
}

inline std::unique_ptr<block_queue> queue_of(block_device& disk, std::uint32_t depth = 32) {
  auto made = disk.make_queue(depth);
  EXPECT_TRUE(made) << made.error().message();
  return std::move(*made);
}

/// Polls until at least `count` completions are there, a generous while at most.
inline std::vector<block_completion> collect(block_queue& queue, std::size_t count) {
  std::vector<block_completion> all;
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds{30};
  while (all.size() < count && std::chrono::steady_clock::now() < deadline) {
    std::array<block_completion, 8> some{};
    const std::size_t got = queue.poll(some);
    all.insert(all.end(), some.begin(), some.begin() + static_cast<std::ptrdiff_t>(got));
  }
  EXPECT_GE(all.size(), count);
  return all;
}

/// One request to its end.
inline block_status run(block_queue& queue, block_request request) {
  request.tag = 7;
  queue.submit({&request, 1});
  if (request.state == block_state::done) {
    return request.status;
  }
  EXPECT_EQ(request.state, block_state::pending);
  queue.flush();
  const auto ended = collect(queue, 1);
  EXPECT_EQ(ended.at(0).tag, 7U);
  return ended.at(0).status;
}

inline block_request request_for(std::span<const segment> pieces, block_op op, std::uint64_t first,
                                 std::uint32_t blocks) {
  return {.segments = pieces.data(),
          .segment_count = static_cast<std::uint32_t>(pieces.size()),
          .blocks = blocks,
          .first = lba{first},
          .op = op};
}

/// `data` cut at random places; lengths are odd, so O_DIRECT takes none of them.
inline std::vector<segment> random_pieces(bytes& data, std::mt19937& random) {
  std::vector<segment> pieces;
  for (std::size_t at = 0; at < data.size();) {
    const std::size_t length = std::min<std::size_t>(data.size() - at, 1 + random() % 3000);
    pieces.push_back({.address = data.data() + at, .length = length});
    at += length;
  }
  // Backwards in memory, so that neighbours do not merge into one.
  std::ranges::reverse(pieces);
  return pieces;
}

inline bytes concatenate(std::span<const segment> pieces) {
  bytes all;
  for (const segment& piece : pieces) {
    all.insert(all.end(), piece.address, piece.address + piece.length);
  }
  return all;
}

using way = std::tuple<bool, bool, std::uint32_t>;  // io_uring, direct, block bytes

/// Every way that the kernel may let a file be used, on both block sizes.
class file_ways : public testing::TestWithParam<way> {
 protected:
  [[nodiscard]] static file_options options() {
    const auto [ring, direct, block] = GetParam();
    return {.block_bytes = block, .direct = direct, .use_io_uring = ring};
  }
  [[nodiscard]] static std::uint32_t block() { return std::get<2>(GetParam()); }
};

inline std::string way_name(const testing::TestParamInfo<way>& test) {
  return std::string{std::get<0>(test.param) ? "Ring" : "Sync"} +
         (std::get<1>(test.param) ? "Direct" : "Cached") + std::to_string(std::get<2>(test.param));
}
inline auto all_ways() {
  return testing::Combine(testing::Bool(), testing::Bool(), testing::Values(512U, 4096U));
}

}  // namespace runnel::uring
