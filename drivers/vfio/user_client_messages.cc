#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "drivers/vfio/uapi/vfio.h"
#include "drivers/vfio/user_client.h"
#include "mempool/base/check.h"

// What the peer says: answers to our questions, and its own wishes for memory.
namespace runnel::vfio {
namespace {

using vfio_user::command;
using vfio_user::dma_access_payload;
using vfio_user::header;
using vfio_user::region_access_payload;

/// Messages handled by one `advance`, so that a busy peer cannot keep its caller.
constexpr std::size_t messages_per_advance = 64;

}  // namespace

/// @return true when there may be more
bool user_client::receive_messages() noexcept {
  for (std::size_t i = 0; i < messages_per_advance && state_ != transport_state::gone; ++i) {
    if (!message_waits_) {
      const auto got = reader_.receive(*channel_);
      if (!got) {
        got.error().code == errc::protocol
            ? violation("it sent what is not a message")
            : lose(got.error(), "receive from", "its process ended the connection");
        return false;
      }
      if (!*got) {
        return false;
      }
    }
    handle_message();
    if (message_waits_) {
      return false;
    }
    continue_bring_up();  // now: descriptors of this message are closed by the next
  }
  return true;
}

void user_client::handle_message() {
  message_waits_ = false;
  const header& head = reader_.head();
  if (head.is_reply()) {
    handle_reply(head, reader_.payload());
  } else {
    handle_command(head, reader_.payload());
  }
}

void user_client::handle_reply(const header& head, std::span<const std::byte> payload) {
  operation* const asked = operations_.waiting_for(head.id);
  if (asked == nullptr) {
    violation("it answered what was not asked");
    return;
  }
  if (asked->command != std::to_underlying(head.what)) {
    violation("it answered with another command");
    return;
  }
  if (head.is_error()) {
    operations_.reply(*asked, {errc::os, head.error_number});
    return;
  }
  const auto data = reply_data(*asked, payload);
  if (!data) {
    violation("an answer is longer or shorter than it may be");
    return;
  }
  operations_.reply(*asked, {}, *data);
}

/// The part of a reply that the asker wants; its length is known or bounded by the question.
result<std::span<const std::byte>> user_client::reply_data(
    const operation& asked, std::span<const std::byte> payload) const noexcept {
  if (payload.size() > asked.reply_bytes) {
    return fail(errc::protocol);
  }
  switch (command{asked.command}) {
    case command::region_read: {
      const auto read = vfio_user::parse_with_data<region_access_payload>(payload);
      if (!read || payload.size() != asked.reply_bytes) {
        return fail(errc::protocol);
      }
      return read->data;
    }
    case command::region_write:
      if (payload.size() != asked.reply_bytes) {
        return fail(errc::protocol);
      }
      return payload.first(0);
    case command::device_feature:
      if (payload.size() < sizeof(uapi::device_feature)) {
        return fail(errc::protocol);
      }
      return payload.subspan(sizeof(uapi::device_feature));
    case command::version:
    case command::device_get_info:
    case command::device_get_region_info:
    case command::device_get_irq_info:
      return payload;
    default:
      return payload.first(0);  // some peers echo the question, some say nothing
  }
}

/// Wishes of the peer: its DMA when it does not share the memory.
void user_client::handle_command(const header& head, std::span<const std::byte> payload) {
  int refused = EINVAL;
  if (head.what == command::dma_read) {
    refused = serve_dma_read(head, payload);
  } else if (head.what == command::dma_write) {
    refused = serve_dma_write(head, payload);
  }
  if (refused != 0 && head.wants_reply()) {
    message_waits_ = !outbox_.push(vfio_user::error_header(head, refused));
  }
  flush();
}

/// @return 0 when that is settled, or the errno to answer with
int user_client::serve_dma_read(const header& head, std::span<const std::byte> payload) noexcept {
  const auto wish = vfio_user::read_wire<dma_access_payload>(payload);
  if (!wish || payload.size() != sizeof(*wish) || wish->count > vfio_user::data_bytes_max) {
    return EINVAL;
  }
  const std::byte* const source = maps_.find(iova{wish->iova}, wish->count, access::read);
  if (source == nullptr) {
    return EINVAL;
  }
  if (!head.wants_reply()) {
    return 0;
  }
  const std::size_t reply_bytes = sizeof(*wish) + wish->count;
  const auto reply = outbox_.reserve(reply_bytes);
  if (reply.empty()) {
    message_waits_ = true;
    return 0;
  }
  vfio_user::write_wire(reply, *wish);
  std::memcpy(reply.data() + sizeof(*wish), source, wish->count);
  const result<> queued = outbox_.commit(vfio_user::reply_header(head, reply_bytes));
  CHECK(queued.has_value());  // only descriptors can fail, and there are none
  return 0;
}

/// @return as above
int user_client::serve_dma_write(const header& head, std::span<const std::byte> payload) noexcept {
  const auto wish = vfio_user::parse_with_data<dma_access_payload>(payload);
  if (!wish) {
    return EINVAL;
  }
  std::byte* const target = maps_.find(iova{wish->fixed.iova}, wish->data.size(), access::write);
  if (target == nullptr) {
    return EINVAL;
  }
  std::ranges::copy(wish->data, target);
  if (head.wants_reply()) {
    message_waits_ = !outbox_.push(vfio_user::reply_header(head, sizeof(wish->fixed)),
                                   vfio_user::wire_bytes(wish->fixed));
  }
  return 0;
}

void user_client::violation(const char* what) {
  lose({errc::protocol}, "talk vfio-user with", what);
}

}  // namespace runnel::vfio
