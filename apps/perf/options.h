#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "mempool/base/clock.h"
#include "runtime/confinement.h"
#include "runtime/idle.h"

namespace runnel::perf {

enum class pattern : std::uint8_t { randread, randwrite, read, write, randrw };

/// What `runnel perf` was asked to do.
struct options {
  std::string address;
  pattern rw = pattern::randread;
  std::uint32_t io_bytes = 4096;
  std::uint32_t depth = 1;  // per core
  nanoseconds duration{std::chrono::seconds{10}};
  nanoseconds warmup{std::chrono::seconds{1}};
  std::vector<unsigned> cores;  // empty: the last allowed one
  std::uint64_t rate = 0;       // I/Os per second over all cores; 0: closed loop
  bool verify = false;
  bool touch = false;
  bool raw = false;
  poll_mode poll = poll_mode::busy;
  std::uint64_t seed = 1;
  /// What the program may do once the device is open, for good; empty: all that it could before.
  std::optional<confinement_options> confine;
  /// Told ten times a second how many ms have passed, of how many (0: unknown). May be empty.
  std::function<void(std::uint64_t done, std::uint64_t total)> progress;
};

}  // namespace runnel::perf
