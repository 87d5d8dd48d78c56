#include "drivers/vfio_user/remote_dma.h"

#include <algorithm>

namespace runnel::vfio_user {

result<ticket> remote_dma::start_read(iova first, std::span<std::byte> bytes) noexcept {
  const auto started = start(command::dma_read, first, bytes.size());
  if (started) {
    read_into_ = bytes;
    write_from_ = {};
  }
  return started;
}

result<ticket> remote_dma::start_write(iova first, std::span<const std::byte> bytes) noexcept {
  const auto started = start(command::dma_write, first, bytes.size());
  if (started) {
    read_into_ = {};
    write_from_ = bytes;
  }
  return started;
}

result<ticket> remote_dma::start(command what, iova first, std::size_t count) noexcept {
  if (count == 0 || count > data_bytes_max) {
    return fail(errc::invalid);
  }
  if (stage_ != stage::free) {
    return fail(errc::queue_full);
  }
  stage_ = stage::waiting;
  what_ = what;
  range_ = {.iova = raw(first), .count = count};
  return ticket{++last_ticket_};
}

std::optional<result<>> remote_dma::take(ticket which) noexcept {
  if (stage_ != stage::done || which != ticket{last_ticket_}) {
    return std::nullopt;
  }
  stage_ = stage::free;
  return status_;
}

void remote_dma::send(outbox& to, instant deadline) noexcept {
  if (stage_ != stage::waiting) {
    return;
  }
  const header head =
      command_header(++message_id_, what_, sizeof(dma_access_payload) + write_from_.size());
  if (to.push(head, wire_bytes(range_), write_from_)) {
    stage_ = stage::sent;
    deadline_ = deadline;
  }
}

result<> remote_dma::receive(const header& head, std::span<const std::byte> payload) noexcept {
  if (stage_ != stage::sent || head.id != message_id_ || head.what != what_) {
    return fail(errc::protocol);
  }
  if (head.is_error()) {
    finish(fail(errc::os, head.error_number));
    return {};
  }
  const std::size_t data_bytes = read_into_.size();  // a write's reply carries none
  const auto range = read_wire<dma_access_payload>(payload);
  if (!range || range->iova != range_.iova || range->count != range_.count ||
      payload.size() != sizeof(dma_access_payload) + data_bytes) {
    return fail(errc::protocol);
  }
  std::ranges::copy(payload.subspan(sizeof(dma_access_payload)), read_into_.begin());
  finish({});
  return {};
}

void remote_dma::fail_pending(error why) noexcept {
  if (stage_ == stage::waiting || stage_ == stage::sent) {
    finish(std::unexpected{why});
  }
}

void remote_dma::finish(result<> status) noexcept {
  stage_ = stage::done;
  status_ = status;
  deadline_ = never;
}

}  // namespace runnel::vfio_user
