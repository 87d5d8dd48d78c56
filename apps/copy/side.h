#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "mempool/base/error.h"
#include "runtime/engine.h"

namespace runnel::copy {

/// One end of a copy. Chunks follow each other; all but the last are full.
/// @context control thread; calls wait
class side {
 public:
  virtual ~side() = default;

  /// Bytes there are, if that is known: of a disk and of a regular file.
  [[nodiscard]] virtual std::optional<std::uint64_t> size() const = 0;
  /// Bytes that can be written; empty: as many as come.
  [[nodiscard]] virtual std::optional<std::uint64_t> room() const = 0;

  /// Fills `chunk` from where the last read ended. @return bytes; fewer than asked only at the end
  [[nodiscard]] virtual outcome<std::size_t> read(std::span<std::byte> chunk) = 0;

  /// Starts to write `chunk` behind the last one. It may go on until the next call to this side,
  /// which reports its errors; `chunk` stays untouched until then.
  [[nodiscard]] virtual outcome<> write(std::span<std::byte> chunk) = 0;

  /// Ends the last write and makes all of them durable. A regular file ends there.
  [[nodiscard]] virtual outcome<> finish() = 0;
};

/// A block device of `host`, driven on its first core with several requests at once.
/// @param buffers  the region in which the chunks lie
[[nodiscard]] outcome<std::unique_ptr<side>> open_disk_side(engine& host,
                                                            const std::string& address,
                                                            const region& buffers, bool to_write);

/// A path, or "-" for standard input or output.
[[nodiscard]] outcome<std::unique_ptr<side>> open_file_side(const std::string& path, bool to_write);

}  // namespace runnel::copy
