#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "mempool/base/error.h"

namespace runnel::copy {

/// Where bytes come from or go to: a block address, a plain file (any path without a scheme), or
/// "-" for standard input and output.
struct options {
  std::string from;
  std::string to;
  /// Told after every chunk how many bytes are there, of how many (0: unknown). May be empty.
  std::function<void(std::uint64_t done, std::uint64_t total)> progress;
};

/// Copies all of FROM to the beginning of TO and flushes TO. A plain file TO is created and has
/// exactly that length afterwards; a disk must have room, which is checked before the first write
/// when the length is known. Bytes of the last block that FROM does not reach stay as they are.
/// @return bytes copied
/// @error what either side says, or invalid: TO is too small; the failure names the side
/// @context control thread; runs an engine of its own on the first core it may use
[[nodiscard]] outcome<std::uint64_t> run(const options& asked);

/// True when `side` is meant as a block address: it has a scheme.
[[nodiscard]] bool is_address(const std::string& side) noexcept;

}  // namespace runnel::copy
