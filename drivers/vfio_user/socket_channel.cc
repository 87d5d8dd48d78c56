#include "drivers/vfio_user/socket_channel.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "drivers/vfio_user/socket_address.h"
#include "mempool/base/check.h"

namespace runnel::vfio_user {
namespace {

constexpr std::size_t fd_bytes_max = message_fds_max * sizeof(int);

/// Ancillary data of one message; aligned as the kernel wants it.
struct control_buffer {
  alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(fd_bytes_max)> bytes{};
};

error socket_error() noexcept {
  const bool peer_left = errno == EPIPE || errno == ECONNRESET;
  return peer_left ? error{errc::device_gone, 0} : os_error();
}

bool would_wait() noexcept {
  return errno == EAGAIN || errno == EINTR;
}

void attach_fds(msghdr& message, control_buffer& control, std::span<const int> fds) noexcept {
  if (fds.empty()) {
    return;
  }
  CHECK(fds.size() <= message_fds_max);
  message.msg_control = control.bytes.data();
  message.msg_controllen = CMSG_SPACE(fds.size_bytes());
  cmsghdr* const item = CMSG_FIRSTHDR(&message);
  item->cmsg_level = SOL_SOCKET;
  item->cmsg_type = SCM_RIGHTS;
  item->cmsg_len = CMSG_LEN(fds.size_bytes());
  std::memcpy(CMSG_DATA(item), fds.data(), fds.size_bytes());
}

/// Owns every descriptor that arrived, whatever follows. False: the peer sent too many.
bool collect_fds(msghdr& message, fd_list& into) noexcept {
  bool all_fit = true;
  for (cmsghdr* item = CMSG_FIRSTHDR(&message); item != nullptr;
       item = CMSG_NXTHDR(&message, item)) {
    if (item->cmsg_level != SOL_SOCKET || item->cmsg_type != SCM_RIGHTS) {
      continue;
    }
    const std::size_t count = (item->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(item) + i * sizeof(int), sizeof(int));
      unique_fd owned{fd};
      if (into.count == into.fds.size()) {
        all_fit = false;
      } else {
        into.fds[into.count++] = std::move(owned);
      }
    }
  }
  if ((message.msg_flags & MSG_CTRUNC) != 0) {
    all_fit = all_fit && into.count < into.fds.size();
    into.incomplete = true;  // with room left, only this process's limit can have cut them off
  }
  return all_fit;
}

class socket_channel final : public channel {
 public:
  explicit socket_channel(unique_fd socket) noexcept : socket_{std::move(socket)} {}

  result<std::size_t> send(std::span<const std::byte> bytes,
                           std::span<const int> fds) noexcept override {
    // sendmsg only reads, but its structure serves both directions.
    iovec part{.iov_base = const_cast<std::byte*>(bytes.data()), .iov_len = bytes.size()};
    msghdr message{};
    control_buffer control;
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    attach_fds(message, control, fds);
    const ssize_t sent = ::sendmsg(socket_.get(), &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0) {
      return would_wait() ? result<std::size_t>{0} : std::unexpected{socket_error()};
    }
    return static_cast<std::size_t>(sent);
  }

  result<std::size_t> receive(std::span<std::byte> into, fd_list& fds) noexcept override {
    CHECK(!into.empty());
    iovec part{.iov_base = into.data(), .iov_len = into.size()};
    msghdr message{};
    control_buffer control;
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control.bytes.data();
    message.msg_controllen = control.bytes.size();
    const ssize_t received = ::recvmsg(socket_.get(), &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (received < 0) {
      return would_wait() ? result<std::size_t>{0} : std::unexpected{socket_error()};
    }
    if (!collect_fds(message, fds)) {
      return fail(errc::protocol);
    }
    if (received == 0) {
      return fail(errc::device_gone);
    }
    return static_cast<std::size_t>(received);
  }

  void hang_up() noexcept override {
    ::shutdown(socket_.get(), SHUT_RDWR);  // fails when the peer has done it before
    const unique_fd silent{::eventfd(0, EFD_CLOEXEC)};
    if (silent) {
      ::dup3(silent.get(), socket_.get(), O_CLOEXEC);  // closes the socket but keeps its number
    }
  }

  int event_fd() const noexcept override { return socket_.get(); }

 private:
  unique_fd socket_;
};

/// Why nobody answered at `path`, in words that lead further.
failure connect_failure(int error_number, const char* path) {
  struct stat status{};
  const bool there = ::stat(path, &status) == 0;
  std::string hint;
  if (error_number == ENOENT) {
    hint = fmt::format("start `runnel target --listen vfio-user:{}` first", path);
  } else if (there && !S_ISSOCK(status.st_mode)) {
    hint = "this file is not a socket";
  } else if (error_number == ECONNREFUSED) {
    hint = "nobody listens on this socket any more; start its target again";
  } else if (error_number == EPROTOTYPE) {
    hint = "this is a socket of another kind, not a stream";
  } else if (error_number == EACCES) {
    hint = "this user may not write to the socket; ask its owner";
  } else if (error_number == EAGAIN) {
    hint = "its server accepts nobody at the moment";
  }
  return {.what = {errc::os, static_cast<std::uint32_t>(error_number)},
          .operation = "connect",
          .object = socket_object(path),
          .hint = std::move(hint)};
}

}  // namespace

std::string socket_object(std::string_view path) {
  return fmt::format("vfio-user:{}", path);
}

outcome<sockaddr_un> make_socket_address(std::string_view path, const char* operation) {
  if (path.empty() || path.size() > socket_path_bytes_max) {
    return fail({errc::invalid, 0}, operation, socket_object(path),
                fmt::format("the path of a socket has 1 to {} bytes", socket_path_bytes_max));
  }
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::ranges::copy(path, address.sun_path);
  return address;
}

result<unique_fd> make_socket() noexcept {
  unique_fd socket{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
  if (!socket) {
    return std::unexpected{os_error()};
  }
  return socket;
}

std::unique_ptr<channel> make_socket_channel(unique_fd socket) {
  return std::make_unique<socket_channel>(std::move(socket));
}

outcome<std::unique_ptr<channel>> connect_socket(const char* path) {
  const auto address = make_socket_address(path, "connect");
  if (!address) {
    return std::unexpected{address.error()};
  }
  auto socket = make_socket();
  if (!socket) {
    return fail(socket.error(), "connect", socket_object(path));
  }
  if (::connect(socket->get(), as_sockaddr(*address), sizeof(*address)) != 0) {
    return std::unexpected{connect_failure(errno, path)};
  }
  return make_socket_channel(std::move(*socket));
}

}  // namespace runnel::vfio_user
