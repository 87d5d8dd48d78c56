#pragma once

#include <memory>

#include "drivers/vfio_user/channel.h"
#include "mempool/base/unique_fd.h"

namespace runnel::vfio_user {

/// A channel over a connected UNIX stream socket. @pre the socket does not block
[[nodiscard]] std::unique_ptr<channel> make_socket_channel(unique_fd socket);

}  // namespace runnel::vfio_user
