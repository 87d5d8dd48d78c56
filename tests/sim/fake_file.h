#pragma once

#include <fcntl.h>
#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "apps/perf/workload.h"
#include "mempool/base/check.h"
#include "tests/sim/volatile_blocks.h"

namespace runnel::sim {

struct fake_file_options {
  std::uint32_t block_bytes = 512;
  std::uint64_t block_count = 64;
  std::uint64_t seed = 1;
  std::uint32_t parts = 0;        // of 256 writes are done in part
  std::uint32_t interrupted = 0;  // of 256 calls end with EINTR
  // Bugs that a test shall find.
  bool sync_does_nothing = false;
  bool dsync_does_nothing = false;
};

/// A file that is not there. Its writes are volatile until they are synced; what io_uring is given
/// is done in any order, some at each look. The kernel's calls come from fake_kernel.cc, to the one
/// that exists.
class fake_file {
 public:
  explicit fake_file(const fake_file_options& options, std::vector<std::byte> content = {})
      : options_{options},
        random_{options.seed},
        blocks_{options.block_bytes,
                content.empty() ? std::vector<std::byte>(options.block_bytes * options.block_count)
                                : std::move(content)} {
    CHECK(std::exchange(current, this) == nullptr);
  }
  fake_file(const fake_file&) = delete;
  fake_file& operator=(const fake_file&) = delete;
  ~fake_file() { current = nullptr; }

  static inline fake_file* current = nullptr;

  /// What was asked for, in the order in which it was done: "write", "write dsync", "read", "zero",
  /// "hole", "sync".
  std::vector<std::string> calls;
  std::map<std::string, int> refused;  // errno of every such call

  /// What would be left if power were lost now.
  [[nodiscard]] std::vector<std::byte> crash() {
    volatile_blocks left = blocks_;
    const volatile_blocks::loss now = left.lose_power(random_, options_.block_bytes);
    dropped += now.dropped;
    return left.durable();
  }
  std::uint64_t dropped = 0;  // blocks, at crashes

  struct call {
    enum class kind : std::uint8_t { read, write, zero, sync } what = kind::read;
    std::span<const iovec> memory{};
    std::uint64_t position = 0;
    std::uint64_t bytes = 0;     // zero
    int mode = 0;                // zero
    bool dsync = false;          // write
    std::uint64_t began = 0;     // syncs care only for what was done by then
    std::uint64_t user = 0;      // io_uring's, to be handed back
    std::array<iovec, 1> own{};  // where the ring gave one vector only
  };

  [[nodiscard]] std::uint64_t now() const { return now_; }
  [[nodiscard]] std::int64_t carry_out(const call& one) {
    const std::string name = name_of(one);
    if (random_.below(256) < options_.interrupted) {
      return -EINTR;
    }
    ++now_;
    calls.push_back(name);
    if (const auto found = refused.find(name); found != refused.end()) {
      return -found->second;
    }
    switch (one.what) {
      case call::kind::read:
        return read(one);
      case call::kind::write:
        return write(one);
      case call::kind::zero:
        store(one.position, std::vector<std::byte>(one.bytes), false);
        return 0;
      case call::kind::sync:
        if (!options_.sync_does_nothing) {
          blocks_.flush(one.began);
        }
        return 0;
    }
    return -EINVAL;
  }

  // What io_uring does.

  void take(const call& one) { started_.push_back(one); }
  struct answer {
    std::uint64_t user;
    std::int32_t result;
  };
  /// Carries some out.
  std::vector<answer> look(std::size_t at_most) {
    std::vector<answer> answers;
    while (answers.size() < at_most && !started_.empty() && random_.below(4) != 0) {
      const std::size_t which = random_.below(started_.size());
      call one = started_[which];
      started_.erase(started_.begin() + static_cast<std::ptrdiff_t>(which));
      if (one.memory.empty()) {
        one.memory = one.own;
      }
      answers.push_back({.user = one.user, .result = static_cast<std::int32_t>(carry_out(one))});
    }
    return answers;
  }

 private:
  [[nodiscard]] static std::string name_of(const call& one) {
    switch (one.what) {
      case call::kind::read:
        return "read";
      case call::kind::write:
        return one.dsync ? "write dsync" : "write";
      case call::kind::zero:
        return (one.mode & FALLOC_FL_PUNCH_HOLE) != 0 ? "hole" : "zero";
      case call::kind::sync:
        return "sync";
    }
    return "";
  }
  [[nodiscard]] std::int64_t read(const call& one) const {
    std::uint64_t at = one.position;
    for (const iovec& part : one.memory) {
      for (std::size_t i = 0; i < part.iov_len; ++i, ++at) {
        static_cast<std::byte*>(part.iov_base)[i] =
            blocks_.block(at / options_.block_bytes)[at % options_.block_bytes];
      }
    }
    return static_cast<std::int64_t>(at - one.position);
  }
  [[nodiscard]] std::int64_t write(const call& one) {
    std::vector<std::byte> data;
    for (const iovec& part : one.memory) {
      const auto* from = static_cast<const std::byte*>(part.iov_base);
      data.insert(data.end(), from, from + part.iov_len);
    }
    if (data.size() > options_.block_bytes && random_.below(256) < options_.parts) {
      data.resize(options_.block_bytes);
    }
    store(one.position, data, one.dsync && !options_.dsync_does_nothing);
    return static_cast<std::int64_t>(data.size());
  }
  /// @pre whole blocks
  void store(std::uint64_t position, const std::vector<std::byte>& data, bool durably) {
    for (std::size_t at = 0; at < data.size(); at += options_.block_bytes) {
      const std::span block = std::span{data}.subspan(at, options_.block_bytes);
      const std::uint64_t which = (position + at) / options_.block_bytes;
      durably ? blocks_.store_durably(which, block)
              : blocks_.store(which, {block.begin(), block.end()}, now_);
    }
  }

  fake_file_options options_;
  perf::random_stream random_;
  volatile_blocks blocks_;
  std::uint64_t now_ = 0;  // calls that were carried out
  std::vector<call> started_;
};

}  // namespace runnel::sim
