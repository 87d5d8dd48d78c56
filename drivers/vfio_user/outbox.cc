#include "drivers/vfio_user/outbox.h"

#include <fcntl.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "mempool/base/check.h"

namespace runnel::vfio_user {
namespace {

result<fd_list> duplicate(std::span<const int> fds) noexcept {
  CHECK(fds.size() <= message_fds_max);
  fd_list copies;
  for (const int fd : fds) {
    unique_fd copy{::fcntl(fd, F_DUPFD_CLOEXEC, 0)};
    if (!copy) {
      return std::unexpected{os_error()};
    }
    copies.fds[copies.count++] = std::move(copy);
  }
  return copies;
}

}  // namespace

outbox::outbox(std::size_t bytes_max)
    : buffer_{std::make_unique_for_overwrite<std::byte[]>(bytes_max)}, bytes_max_{bytes_max} {
  CHECK(bytes_max >= message_bytes_max);
}

result<> outbox::push(const header& head, std::span<const std::byte> fixed,
                      std::span<const std::byte> data, std::span<const int> fds) noexcept {
  const std::size_t payload_bytes = fixed.size() + data.size();
  CHECK(head.payload_bytes() == payload_bytes);
  if (bytes_max_ - (last_ - first_) < head.size) {
    return fail(errc::queue_full);
  }
  const auto payload = reserve(payload_bytes);
  const auto rest = std::ranges::copy(fixed, payload.begin()).out;
  std::ranges::copy(data, rest);
  return commit(head, fds);
}

std::span<std::byte> outbox::reserve(std::size_t payload_bytes) noexcept {
  const std::size_t waiting = last_ - first_;
  const std::size_t needed = sizeof(header) + payload_bytes;
  if (bytes_max_ - waiting < needed) {
    return {};
  }
  if (waiting == 0 || bytes_max_ - last_ < needed) {
    std::memmove(buffer_.get(), buffer_.get() + first_, waiting);
    first_ = 0;
    last_ = waiting;
  }
  return {buffer_.get() + last_ + sizeof(header), payload_bytes};
}

result<> outbox::commit(const header& head, std::span<const int> fds) noexcept {
  CHECK(head.size >= sizeof(header));
  CHECK(bytes_max_ - last_ >= head.size);
  if (!fds.empty()) {
    auto copies = duplicate(fds);
    if (!copies) {
      return std::unexpected{copies.error()};
    }
    parcels_.push_back({.at = bytes_sent_ + (last_ - first_), .fds = std::move(*copies)});
  }
  std::memcpy(buffer_.get() + last_, &head, sizeof(header));
  last_ += head.size;
  return {};
}

result<> outbox::flush(channel& to) noexcept {
  while (first_ != last_) {
    const bool at_start = message_left_ == 0;
    std::array<int, message_fds_max> fds{};
    std::size_t fd_count = 0;
    if (at_start) {
      header head;
      std::memcpy(&head, buffer_.get() + first_, sizeof(header));
      message_left_ = head.size;
      if (!parcels_.empty() && parcels_.front().at == bytes_sent_) {
        fd_count = parcels_.front().fds.count;
        std::ranges::transform(parcels_.front().fds.fds, fds.begin(), &unique_fd::get);
      }
    }
    const auto sent = to.send({buffer_.get() + first_, message_left_}, {fds.data(), fd_count});
    if (!sent || *sent == 0) {
      message_left_ = at_start ? 0 : message_left_;  // its descriptors are still to be sent
      return sent ? result<>{} : std::unexpected{sent.error()};
    }
    if (fd_count != 0) {
      parcels_.pop_front();
    }
    first_ += *sent;
    message_left_ -= *sent;
    bytes_sent_ += *sent;
  }
  return {};
}

void outbox::take_back() noexcept {
  last_ = first_ + message_left_;
  parcels_.clear();  // descriptors leave with the first byte: none belong to what was begun
}

}  // namespace runnel::vfio_user
