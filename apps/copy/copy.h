#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "mempool/base/error.h"
#include "runtime/confinement.h"

namespace runnel::copy {

/// Where bytes come from or go to: a block address, a plain file (any path without a scheme), or
/// "-" for standard input and output.
struct options {
  std::string from;
  std::string to;
  /// Told after every chunk how many bytes are there, of how many (0: unknown). May be empty.
  std::function<void(std::uint64_t done, std::uint64_t total)> progress;
  /// What the program may do once both sides are open, for good; empty: all that it could before.
  std::optional<confinement_options> confine{};
};

struct summary {
  std::uint64_t bytes = 0;
  std::vector<std::string> notes;  // see engine::notes
};

/// Copies all of FROM to the beginning of TO and flushes TO. A plain file TO is created and has
/// exactly that length afterwards; a disk must have room, which is checked before the first write
/// when the length is known. Bytes of the last block that FROM does not reach stay as they are.
/// @error what either side says, or invalid: TO is too small, or the file that FROM is; the failure
///        names the side, and nothing was written to it
/// @context control thread; runs an engine of its own on the last core it may use, because targets
///          take the first
[[nodiscard]] outcome<summary> run(const options& asked);

/// True when `side` is meant as a block address: it has a scheme.
[[nodiscard]] bool is_address(const std::string& side) noexcept;

}  // namespace runnel::copy
