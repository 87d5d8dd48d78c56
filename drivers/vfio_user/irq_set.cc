#include "drivers/vfio_user/irq_set.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <bit>
#include <cerrno>

#include "drivers/vfio/uapi/vfio.h"
#include "drivers/vfio_user/protocol.h"
#include "mempool/base/checked.h"

namespace runnel::vfio_user {
namespace {

namespace flags = vfio::uapi::irq_set_flags;
using kind = irq_change::kind;

/// Masking one maskable interrupt; eventfds for it are refused, as the kernel does for most.
std::expected<kind, int> mask_kind(const vfio::uapi::irq_set& set, std::uint32_t irq_flags,
                                   std::span<const std::byte> data) noexcept {
  const bool maskable = (irq_flags & vfio::uapi::irq_flags::maskable) != 0;
  if (!maskable || (set.flags & flags::data_eventfd) != 0) {
    return std::unexpected{ENOTTY};
  }
  if (set.start != 0 || set.count != 1) {
    return std::unexpected{EINVAL};
  }
  if ((set.flags & flags::data_bool) != 0 && data.front() == std::byte{0}) {
    return kind::nothing;
  }
  return (set.flags & flags::action_mask) != 0 ? kind::mask : kind::unmask;
}

std::expected<kind, int> trigger_kind(const vfio::uapi::irq_set& set,
                                      std::size_t fd_count) noexcept {
  if ((set.flags & flags::data_eventfd) != 0) {
    if (fd_count != 0) {
      return kind::attach;
    }
    return set.count != 0 ? kind::detach : kind::nothing;
  }
  if ((set.flags & flags::data_bool) != 0) {
    return std::unexpected{ENOTSUP};  // nobody names the vectors that he fires by bytes
  }
  return set.count == 0 ? kind::disable : kind::trigger;
}

}  // namespace

std::expected<irq_change, int> check_irq_set(std::span<const std::byte> payload,
                                             std::size_t fd_count,
                                             const device_layout& layout) noexcept {
  const auto set = read_wire<vfio::uapi::irq_set>(payload);
  if (!set || set->argsz < sizeof(*set) ||
      (set->flags & ~(flags::data_all | flags::action_all)) != 0) {
    return std::unexpected{EINVAL};
  }
  if (std::popcount(set->flags & flags::data_all) != 1 ||
      std::popcount(set->flags & flags::action_all) != 1 || set->index >= layout.irqs.size()) {
    return std::unexpected{EINVAL};
  }
  const vfio::irq_info& irq = layout.irqs[set->index];
  if (set->start >= irq.count || !range_within(set->start, set->count, irq.count)) {
    return std::unexpected{EINVAL};
  }
  const auto data = payload.subspan(sizeof(*set));
  const bool by_fd = (set->flags & flags::data_eventfd) != 0;
  const bool by_byte = (set->flags & flags::data_bool) != 0;
  if ((fd_count != 0 && (!by_fd || fd_count != set->count)) ||
      (by_byte && data.size() < set->count)) {
    return std::unexpected{EINVAL};
  }
  const auto what = (set->flags & flags::action_trigger) != 0 ? trigger_kind(*set, fd_count)
                                                              : mask_kind(*set, irq.flags, data);
  if (!what) {
    return std::unexpected{what.error()};
  }
  return irq_change{.what = *what, .index = set->index, .start = set->start, .count = set->count};
}

int prepare_eventfd(int fd) noexcept {
  struct stat status{};
  if (::fstat(fd, &status) != 0) {
    return errno;
  }
  // Descriptors without a file have no type here. Those among them that are not eventfds refuse a
  // write at once, which does no harm.
  if ((status.st_mode & S_IFMT) != 0) {
    return EINVAL;
  }
  const int mode = ::fcntl(fd, F_GETFL);
  return mode >= 0 && ::fcntl(fd, F_SETFL, mode | O_NONBLOCK) == 0 ? 0 : errno;
}

}  // namespace runnel::vfio_user
