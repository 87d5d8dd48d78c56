#include "drivers/uring/opened_file.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include <cerrno>
#include <utility>

#include "drivers/uring/transfer.h"

namespace runnel::uring {
namespace {

/// Turns the page cache off for a file, when that can serve blocks of the file's size.
/// @return false: the file is as it was
bool make_direct(opened_file& file) {
  const int fd = file.fd.get();
  const int flags = fcntl(fd, F_GETFL);
  if (fcntl(fd, F_SETFL, flags | O_DIRECT) != 0) {
    return false;
  }
  const std::uint32_t block_bytes = file.geometry.block_bytes;
  struct statx status{};
  const bool known = statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &status) == 0 &&
                     (status.stx_mask & STATX_DIOALIGN) != 0;
  // Kernels before 6.1, and some file systems, do not say: there a page fits.
  file.memory_alignment = known ? status.stx_dio_mem_align : page_bytes;
  file.length_alignment = known ? status.stx_dio_offset_align : block_bytes;
  file.direct = file.memory_alignment != 0 && block_bytes % file.length_alignment == 0;
  if (file.direct) {
    const aligned_memory trial = allocate_aligned(block_bytes);
    // Other errors than this one are for the requests that meet them.
    file.direct = pread(fd, trial.get(), block_bytes, 0) >= 0 || errno != EINVAL;
  }
  if (!file.direct) {
    fcntl(fd, F_SETFL, flags);
  }
  return file.direct;
}

std::string remedy(int errno_value, bool read_only) {
  switch (errno_value) {
    case ENOENT:
      return "create it first, for instance with `truncate -s 1G`";
    case EACCES:
    case EPERM:
      return read_only ? "this user may not read it" : "this user may not read and write it";
    case EROFS:
      return "the file system is mounted read-only";
    case EBUSY:
      return "it is mounted or in use";
    case EISDIR:
      return "name a file in it";
    default:
      return "";
  }
}

std::unexpected<failure> refuse(int errno_value, const std::string& address, bool read_only) {
  return fail({errc::os, static_cast<std::uint32_t>(errno_value)}, "open", address,
              remedy(errno_value, read_only));
}

/// What can be done with a file beside reading, writing and flushing.
block_op_set operations_of(int fd, const struct stat& status, bool read_only) noexcept {
  constexpr block_op_set without_holes{block_op::read, block_op::write, block_op::flush,
                                       block_op::compare, block_op::verify};
  // A hole at the end of a file changes nothing; some file systems (9p, NFS before 4.2) have none.
  // Block devices have always one way to zero, if a slow one. To read-only files it is refused like
  // any write.
  const bool holes = S_ISBLK(status.st_mode) || read_only ||
                     fallocate(fd, hole_mode, status.st_size, page_bytes) == 0;
  return holes ? all_block_operations : without_holes;
}

/// Bytes of a regular file or block device.
result<std::uint64_t> size_of(int fd, const struct stat& status) noexcept {
  if (S_ISREG(status.st_mode)) {
    return static_cast<std::uint64_t>(status.st_size);
  }
  std::uint64_t bytes = 0;
  if (ioctl(fd, BLKGETSIZE64, &bytes) != 0) {
    return std::unexpected{os_error()};
  }
  return bytes;
}

}  // namespace

block_status check_request(const opened_file& file, const block_request& request) noexcept {
  if (file.read_only && changes_data(request.op)) {
    return block_status::write_protected;
  }
  if (request.segment_count > segments_max) {
    return block_status::invalid_field;
  }
  return check_request(file.geometry, request);
}

outcome<opened_file> open_and_examine(const std::string& address, const std::string& path,
                                      const file_options& options) {
  struct stat status{};
  if (stat(path.c_str(), &status) != 0) {
    return refuse(errno, address, options.read_only);
  }
  if (S_ISDIR(status.st_mode)) {
    return refuse(EISDIR, address, options.read_only);
  }
  if (!S_ISREG(status.st_mode) && !S_ISBLK(status.st_mode)) {
    return fail({errc::invalid}, "open", address, "it is neither a file nor a block device");
  }
  // Exclusively: writing to a disk that is mounted would destroy what is on it.
  const int exclusive = S_ISBLK(status.st_mode) && !options.read_only ? O_EXCL : 0;
  const int flags = O_CLOEXEC | exclusive | (options.read_only ? O_RDONLY : O_RDWR);
  opened_file file{.fd = unique_fd{open(path.c_str(), flags)},
                   .geometry = {},
                   .read_only = options.read_only,
                   .note = {}};
  if (!file.fd) {
    return refuse(errno, address, options.read_only);
  }
  const auto bytes = size_of(file.fd.get(), status);
  if (!bytes) {
    return fail(bytes.error(), "open", address);
  }
  if (auto fits = check_disk_size(address, *bytes, options.block_bytes); !fits) {
    return std::unexpected{std::move(fits.error())};
  }
  file.geometry = {.block_bytes = options.block_bytes,
                   .transfer_bytes_max = transfer_bytes_max,
                   .block_count = *bytes / options.block_bytes,
                   .operations = operations_of(file.fd.get(), status, options.read_only)};
  if (options.direct && !make_direct(file)) {
    file.note = "through the page cache: O_DIRECT does not work there with blocks of " +
                std::to_string(options.block_bytes);
  }
  return file;
}

}  // namespace runnel::uring
