#include "drivers/pci/writer.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "mempool/base/unique_fd.h"

namespace runnel::pci {
namespace {

result<> write_all(int fd, std::string_view text) noexcept {
  const ssize_t bytes = write(fd, text.data(), text.size());
  if (bytes < 0) {
    return std::unexpected{os_error()};
  }
  return bytes == static_cast<ssize_t>(text.size()) ? result<>{} : fail(errc::os, EIO);
}

/// The end of a child whose exit status is an errno.
result<> await_child(pid_t child, nanoseconds limit) noexcept {
  // By its number: before 2.37 the header of glibc lacks what makes this a C function.
  const unique_fd end{static_cast<int>(syscall(SYS_pidfd_open, child, 0))};
  pollfd wait{.fd = end.get(), .events = POLLIN, .revents = 0};
  const auto limit_ms = std::chrono::ceil<std::chrono::milliseconds>(limit).count();
  int ended = 0;
  do {
    ended = poll(&wait, 1, static_cast<int>(limit_ms));
  } while (ended < 0 && errno == EINTR);
  if (ended == 0) {
    return fail(errc::timed_out);
  }
  int status = 0;
  waitpid(child, &status, 0);
  const int problem = WIFEXITED(status) ? WEXITSTATUS(status) : EINTR;
  return problem == 0 ? result<>{} : fail(errc::os, static_cast<std::uint32_t>(problem));
}

}  // namespace

result<> system_writer::may_write(std::string_view path) {
  if (faccessat(AT_FDCWD, files_.real(path).c_str(), W_OK, AT_EACCESS) != 0) {
    return std::unexpected{os_error()};
  }
  return {};
}

result<> system_writer::write(std::string_view path, std::string_view text) {
  const unique_fd fd{open(files_.real(path).c_str(), O_WRONLY | O_CLOEXEC)};
  if (!fd) {
    return std::unexpected{os_error()};
  }
  // A child, since nothing ends a write that the kernel is busy with; it ends by itself one day.
  const pid_t child = fork();
  if (child < 0) {
    return std::unexpected{os_error()};
  }
  if (child == 0) {
    // Who reads our output is not to wait for this: before kernel 5.9 they do.
    dup2(fd.get(), 0);
    close_range(1, ~0U, 0);
    const result<> written = write_all(0, text);
    _exit(written ? 0 : static_cast<int>(written.error().detail));
  }
  return await_child(child, limit_);
}

result<> system_writer::keep(std::string_view path, std::string_view text) {
  const std::string whole = files_.real(path);
  const std::string folder = whole.substr(0, whole.rfind('/'));
  const std::string part = whole + ".new";
  if (mkdir(folder.c_str(), 0755) != 0 && errno != EEXIST) {
    return std::unexpected{os_error()};
  }
  constexpr int flags = O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC;
  const unique_fd fd{open(part.c_str(), flags, 0644)};
  if (!fd) {
    return std::unexpected{os_error()};
  }
  if (const result<> written = write_all(fd.get(), text); !written) {
    return written;
  }
  if (rename(part.c_str(), whole.c_str()) != 0) {
    return std::unexpected{os_error()};
  }
  return {};
}

void system_writer::forget(std::string_view path) {
  unlink(files_.real(path).c_str());  // one that stays is told by its device from others
}

}  // namespace runnel::pci
