#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "drivers/block.h"
#include "mempool/base/error.h"
#include "mempool/region.h"

namespace runnel::uring {

struct file_options {
  std::uint32_t block_bytes = 512;
  bool read_only = false;
  bool direct = true;              // O_DIRECT where the file takes it
  bool use_io_uring = true;        // false: pread and pwrite, as where the kernel refuses io_uring
  const region* pinned = nullptr;  // memory that outlives the device, registered with the kernel
                                   // once; requests in it cost less. The window, or none
};

/// A regular file or block device as a disk, asynchronous through one io_uring per queue.
///
/// What could not be had (O_DIRECT, io_uring, registered memory) is replaced by what always works
/// and named in `block_info::note`. Blocks beyond the size the file had when it was opened do not
/// exist; a file that shrinks later answers with errors.
/// @param address  as the user gave it, for messages and `block_info`
/// @error os (absent, not permitted), invalid (a directory, smaller than a block, not a multiple)
/// @context control thread; system calls
[[nodiscard]] outcome<std::unique_ptr<block_device>> open_file(std::string address,
                                                               const std::string& path,
                                                               const file_options& options);

}  // namespace runnel::uring
