#pragma once

#include <cstdint>
#include <string>

#include "drivers/block_check.h"
#include "drivers/uring/file.h"
#include "mempool/base/error.h"
#include "mempool/base/unique_fd.h"

namespace runnel::uring {

/// A file that is open and has been found to make a disk.
struct opened_file {
  unique_fd fd;
  block_geometry geometry;
  bool read_only = false;
  bool direct = false;                 // past the page cache
  std::uint32_t memory_alignment = 1;  // direct: what addresses of memory must be a multiple of
  std::uint32_t length_alignment = 1;  // direct: and the length of every piece
  std::string note;                    // why it is not direct, when it was to be
};

/// As `runnel::check_request`, and what a file adds: it may be read-only, and a transfer has so
/// many places for segments.
[[nodiscard]] block_status check_request(const opened_file& file,
                                         const block_request& request) noexcept;

/// @param address  what failures call it. @error as open_file
[[nodiscard]] outcome<opened_file> open_and_examine(const std::string& address,
                                                    const std::string& path,
                                                    const file_options& options);

}  // namespace runnel::uring
