#include "drivers/vfio_user/message_reader.h"

#include "mempool/base/check.h"

namespace runnel::vfio_user {

message_reader::message_reader()
    : buffer_{std::make_unique_for_overwrite<std::byte[]>(message_bytes_max)} {}

result<bool> message_reader::receive(channel& from) noexcept {
  if (whole_) {
    whole_ = false;
    received_ = 0;
    fds_.clear();
  }
  for (;;) {
    const std::size_t wanted = received_ < sizeof(header) ? sizeof(header) : head_.size;
    const auto taken = from.receive({buffer_.get() + received_, wanted - received_}, fds_);
    if (!taken) {
      return std::unexpected{taken.error()};
    }
    if (*taken == 0) {
      return false;
    }
    CHECK(*taken <= wanted - received_);
    received_ += *taken;
    if (received_ < wanted) {
      continue;
    }
    if (wanted == sizeof(header)) {
      const auto head = parse_header({buffer_.get(), sizeof(header)});
      if (!head) {
        return std::unexpected{head.error()};
      }
      head_ = *head;
    }
    if (received_ == head_.size) {
      whole_ = true;
      return true;
    }
  }
}

}  // namespace runnel::vfio_user
