#include "drivers/vfio/info_reply.h"

#include <algorithm>
#include <cstring>

#include "mempool/base/check.h"

namespace runnel::vfio {
namespace {

/// Once to learn how much it takes, once to get it, and once if that grew meanwhile.
constexpr int attempts_max = 3;

}  // namespace

result<std::vector<std::byte>> ask_info(syscalls& system, int fd, unsigned long request,
                                        std::span<const std::byte> fixed) {
  CHECK(fixed.size() >= sizeof(std::uint32_t));
  std::size_t room = fixed.size();
  for (int attempt = 0; attempt < attempts_max && room <= info_bytes_max; ++attempt) {
    std::vector<std::byte> reply(room);
    std::ranges::copy(fixed, reply.begin());
    auto needed = static_cast<std::uint32_t>(room);
    std::memcpy(reply.data(), &needed, sizeof(needed));
    const auto address = reinterpret_cast<std::uintptr_t>(reply.data());
    if (const auto asked = system.ioctl(fd, request, address); !asked) {
      return std::unexpected{asked.error()};
    }
    std::memcpy(&needed, reply.data(), sizeof(needed));
    if (needed <= room) {
      return reply;
    }
    room = needed;
  }
  return fail(errc::protocol);
}

}  // namespace runnel::vfio
