#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "apps/copy/side.h"
#include "mempool/base/unique_fd.h"

namespace runnel::copy {
namespace {

/// Bytes through read(2) and write(2): a pipe, or a file of any length.
class file_side final : public side {
 public:
  /// @param size  of a regular file
  file_side(unique_fd fd, std::string name, std::optional<std::uint64_t> size)
      : fd_{std::move(fd)}, name_{std::move(name)}, named_{name_ != "-"}, size_{size} {}

  [[nodiscard]] std::optional<std::uint64_t> size() const override { return size_; }
  [[nodiscard]] std::optional<std::uint64_t> room() const override { return std::nullopt; }

  outcome<std::size_t> read(std::span<std::byte> chunk) override {
    std::size_t done = 0;
    while (done < chunk.size()) {
      const ssize_t count = ::read(fd_.get(), chunk.data() + done, chunk.size() - done);
      if (count == 0) {
        break;
      }
      if (count < 0 && errno != EINTR) {
        return fail(os_error(), "read", name_);
      }
      done += count > 0 ? static_cast<std::size_t>(count) : 0;
    }
    return done;
  }

  outcome<> write(std::span<std::byte> chunk) override {
    while (!chunk.empty()) {
      const ssize_t count = ::write(fd_.get(), chunk.data(), chunk.size());
      if (count < 0 && errno != EINTR) {
        return fail(os_error(), "write", name_);
      }
      const std::size_t done = count > 0 ? static_cast<std::size_t>(count) : 0;
      chunk = chunk.subspan(done);
      written_ += done;
    }
    return {};
  }

  outcome<> finish() override {
    if (size_ && named_ && ftruncate(fd_.get(), static_cast<off_t>(written_)) != 0) {
      return fail(os_error(), "end", name_);
    }
    if (fdatasync(fd_.get()) != 0 && errno != EINVAL && errno != EROFS) {  // EINVAL: a pipe
      return fail(os_error(), "flush", name_);
    }
    return {};
  }

 private:
  unique_fd fd_;
  std::string name_;
  bool named_;  // else the shell opened it, and may have more to write behind us
  std::optional<std::uint64_t> size_;
  std::uint64_t written_ = 0;
};

}  // namespace

outcome<std::unique_ptr<side>> open_file_side(const std::string& path, bool to_write) {
  constexpr mode_t rw_for_all = 0666;  // less the umask
  unique_fd fd;
  if (path == "-") {
    fd.reset(dup(to_write ? STDOUT_FILENO : STDIN_FILENO));
  } else {
    const int flags = to_write ? O_WRONLY | O_CREAT : O_RDONLY;
    fd.reset(open(path.c_str(), flags | O_CLOEXEC, rw_for_all));
  }
  if (!fd) {
    return fail(os_error(), to_write ? "create" : "open", path);
  }
  struct stat about{};
  std::optional<std::uint64_t> size;
  if (fstat(fd.get(), &about) == 0) {
    if (S_ISDIR(about.st_mode)) {
      return fail({errc::os, EISDIR}, "open", path);
    }
    if (S_ISREG(about.st_mode)) {
      size = static_cast<std::uint64_t>(about.st_size);
    }
  }
  return std::make_unique<file_side>(std::move(fd), path, size);
}

}  // namespace runnel::copy
