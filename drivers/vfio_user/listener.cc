#include "drivers/vfio_user/listener.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "drivers/vfio_user/socket_address.h"
#include "drivers/vfio_user/socket_channel.h"

namespace runnel::vfio_user {
namespace {

// One client is served at a time; a few more may stand in line.
constexpr int backlog = 8;

/// Process that serves a connected socket, 0 when the kernel does not say.
pid_t peer_process(int socket) noexcept {
  ucred peer{};
  socklen_t bytes = sizeof(peer);
  return ::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &bytes) == 0 ? peer.pid : 0;
}

/// Something is at the path already. Removes it when it is a socket nobody serves.
outcome<> clear_path(const sockaddr_un& address, std::string_view path) {
  const std::string object = socket_object(path);
  struct stat status{};
  if (::lstat(address.sun_path, &status) != 0) {
    return errno == ENOENT ? outcome<>{} : fail(os_error(), "listen on", object);
  }
  if (!S_ISSOCK(status.st_mode)) {
    return fail({errc::os, EEXIST}, "listen on", object,
                "this file is not a socket; remove it or choose another path");
  }
  const auto probe = make_socket();
  if (!probe) {
    return fail(probe.error(), "listen on", object);
  }
  const int failed = ::connect(probe->get(), as_sockaddr(address), sizeof(address));
  if (failed == 0) {
    return fail({errc::busy, 0}, "listen on", object,
                fmt::format("already served by process {}; stop it or choose another path",
                            peer_process(probe->get())));
  }
  if (errno != ECONNREFUSED) {
    return fail({errc::busy, 0}, "listen on", object,
                "already served by another process; stop it or choose another path");
  }
  if (::unlink(address.sun_path) != 0 && errno != ENOENT) {
    return fail(os_error(), "listen on", object, "the socket of a dead server cannot be removed");
  }
  return {};
}

}  // namespace

outcome<listener> listener::bind(std::string_view path) {
  const auto address = make_socket_address(path, "listen on");
  if (!address) {
    return std::unexpected{address.error()};
  }
  auto socket = make_socket();
  if (!socket) {
    return fail(socket.error(), "listen on", socket_object(path));
  }
  int failed = ::bind(socket->get(), as_sockaddr(*address), sizeof(*address));
  if (failed != 0 && errno == EADDRINUSE) {
    auto cleared = clear_path(*address, path);
    if (!cleared) {
      return std::unexpected{std::move(cleared.error())};
    }
    failed = ::bind(socket->get(), as_sockaddr(*address), sizeof(*address));
  }
  if (failed != 0 || ::listen(socket->get(), backlog) != 0) {
    return fail(os_error(), "listen on", socket_object(path),
                "the directory must exist and be writable");
  }
  return listener{std::move(*socket), std::string{path}};
}

listener::listener(unique_fd socket, std::string path)
    : socket_{std::move(socket)}, path_{std::move(path)} {
  struct stat status{};
  if (::lstat(path_.c_str(), &status) == 0) {
    device_ = status.st_dev;
    inode_ = status.st_ino;
  }
}

listener::~listener() {
  struct stat status{};
  if (socket_ && ::lstat(path_.c_str(), &status) == 0 && status.st_dev == device_ &&
      status.st_ino == inode_) {
    ::unlink(path_.c_str());  // if it fails, the next server finds it stale and replaces it
  }
}

result<std::unique_ptr<channel>> listener::accept() noexcept {
  unique_fd client{::accept4(socket_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK)};
  if (client) {
    return make_socket_channel(std::move(client));
  }
  const bool nobody = errno == EAGAIN || errno == EINTR || errno == ECONNABORTED;
  return nobody ? result<std::unique_ptr<channel>>{} : std::unexpected{os_error()};
}

}  // namespace runnel::vfio_user
