#pragma once

#include <sys/socket.h>
#include <sys/un.h>

#include <string>
#include <string_view>

#include "mempool/base/error.h"
#include "mempool/base/unique_fd.h"

// What the connecting and the listening side of a UNIX socket share.
namespace runnel::vfio_user {

/// Longest path of a socket, terminator excluded.
inline constexpr std::size_t socket_path_bytes_max = sizeof(sockaddr_un::sun_path) - 1;

/// "vfio-user:PATH", as failures name it.
[[nodiscard]] std::string socket_object(std::string_view path);

/// @error invalid (empty or too long)
[[nodiscard]] outcome<sockaddr_un> make_socket_address(std::string_view path,
                                                       const char* operation);

/// A stream socket that does not wait. @error os
[[nodiscard]] result<unique_fd> make_socket() noexcept;

[[nodiscard]] inline const sockaddr* as_sockaddr(const sockaddr_un& address) noexcept {
  return reinterpret_cast<const sockaddr*>(&address);
}

}  // namespace runnel::vfio_user
