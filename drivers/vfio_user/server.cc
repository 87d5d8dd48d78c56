#include "drivers/vfio_user/server.h"

#include <algorithm>
#include <utility>

#include "mempool/base/check.h"

namespace runnel::vfio_user {
namespace {

using namespace std::chrono_literals;

// How soon to look again when no descriptor will tell: at a socket that was full, at a model that
// was not quiet yet.
constexpr nanoseconds retry_send = 1ms;
constexpr nanoseconds retry_close = 50us;

}  // namespace

outcome<std::unique_ptr<server>> server::create(device_model& model, server_options options) {
  auto memory = client_memory::create(options.maps_max, options.bus);
  if (!memory) {
    return fail(memory.error(), "serve", options.name, "this process serves too many devices");
  }
  return std::unique_ptr<server>{new server{model, std::move(options), std::move(*memory)}};
}

server::server(device_model& model, server_options options, client_memory memory)
    : model_{model},
      layout_{model.init()},
      options_{std::move(options)},
      memory_{std::move(memory)} {
  CHECK(options_.messages_max > 0);
  CHECK(options_.unmaps_max > 0);
}

server::~server() {
  CHECK(state_ == server_state::idle);
}

void server::attach(std::unique_ptr<channel> client) {
  CHECK(state_ == server_state::idle);
  CHECK(client != nullptr);
  dma_.forget();
  connection_ = std::make_unique<connection>();
  connection_->link = std::move(client);
  state_ = server_state::connected;
}

instant server::advance(instant now) {
  more_ = false;
  if (state_ == server_state::connected) {
    serve(now);
  }
  if (state_ == server_state::closing) {
    close();
  }
  return next_call(now);
}

void server::reply(request_id id, int errno_value) noexcept {
  if (state_ != server_state::connected || !connection_->current.open || id != current_id()) {
    return;  // its client is gone
  }
  connection_->current.late_answer = errno_value;
}

void server::disconnect(failure reason) {
  CHECK(state_ == server_state::connected);
  last_end_ = std::move(reason);
  connection_->link.reset();
  connection_->current.open = false;
  dma_.fail_pending({errc::device_gone, 0});
  state_ = server_state::closing;
}

int server::event_fd() const noexcept {
  return state_ == server_state::connected ? connection_->link->event_fd() : -1;
}

result<ticket> server::dma_read(iova first, std::span<std::byte> bytes) noexcept {
  if (!connected()) {
    return fail(errc::device_gone);
  }
  if (bytes.size() > connection_->limits.max_data_xfer_size) {
    return fail(errc::invalid);
  }
  return dma_.start_read(first, bytes);
}

result<ticket> server::dma_write(iova first, std::span<const std::byte> bytes) noexcept {
  if (!connected()) {
    return fail(errc::device_gone);
  }
  if (bytes.size() > connection_->limits.max_data_xfer_size) {
    return fail(errc::invalid);
  }
  return dma_.start_write(first, bytes);
}

void server::serve(instant now) {
  connection& client = *connection_;
  if (memory_.poisoned()) {
    end({errc::protocol, 0}, "the client shrank the file of its memory");
    return;
  }
  continue_request();
  bool progress = false;
  for (unsigned budget = options_.messages_max;; --budget) {
    if (!client.current.open) {
      dma_.send(client.replies, now + options_.dma_deadline);
    }
    if (const auto sent = client.replies.flush(*client.link); !sent) {
      end(sent.error(), "the client left without reading its replies");
      return;
    }
    if (client.current.open || !client.replies.empty()) {
      break;
    }
    if (budget == 0) {
      more_ = true;
      break;
    }
    if (!receive_one()) {
      break;
    }
    progress = true;
  }
  if (state_ == server_state::connected) {
    watch_deadlines(now, progress);
  }
}

/// False: no more messages now, or no client any more.
bool server::receive_one() {
  connection& client = *connection_;
  const auto whole = client.reader.receive(*client.link);
  if (!whole) {
    const bool by_itself = whole.error().code == errc::device_gone && !client.reader.halfway();
    end(whole.error(), by_itself ? "" : "in the middle of a message");
    return false;
  }
  if (!*whole) {
    return false;
  }
  if (!client.reader.head().is_reply()) {
    begin_request();
  } else if (!dma_.receive(client.reader.head(), client.reader.payload())) {
    end({errc::protocol, 0}, "a reply that nobody asked for");
  }
  return state_ == server_state::connected;
}

/// Whatever the client owes us, it owes within one deadline that every message renews.
void server::watch_deadlines(instant now, bool progress) {
  connection& client = *connection_;
  if (now >= dma_.deadline()) {
    if (!client.current.open) {
      end({errc::timed_out, 0}, "the client did not answer a DMA message");
      return;
    }
    dma_.postpone(now + options_.dma_deadline);
  }
  const bool unread = !client.replies.empty();
  if (!unread && client.introduced && !client.reader.halfway()) {
    client.deadline = never;
  } else if (progress || client.deadline == never) {
    client.deadline = now + options_.client_deadline;
  } else if (now >= client.deadline) {
    end({errc::timed_out, 0}, unread              ? "the client does not read its replies"
                              : client.introduced ? "the client does not finish its message"
                                                  : "the client does not introduce itself");
  }
}

void server::end(error what, std::string hint) {
  disconnect(
      {.what = what, .operation = "serve", .object = options_.name, .hint = std::move(hint)});
}

void server::close() {
  if (connection_->introduced && !model_.close_device()) {
    return;
  }
  connection_->introduced = false;  // the model is closed
  if (!memory_.unmap_some(options_.unmaps_max)) {
    more_ = true;
    return;
  }
  connection_.reset();
  state_ = server_state::idle;
}

instant server::next_call(instant now) const noexcept {
  switch (state_) {
    case server_state::idle:
      return never;
    case server_state::closing:
      return more_ ? now : now + retry_close;
    case server_state::connected:
      break;
  }
  if (more_ || connection_->current.late_answer) {
    return now;
  }
  const instant deadline = std::min(connection_->deadline, dma_.deadline());
  return connection_->replies.empty() ? deadline : std::min(deadline, now + retry_send);
}

void server::begin_request() {
  connection& client = *connection_;
  client.current = {};
  client.current.head = client.reader.head();
  client.current.number = ++last_request_;
  client.current.open = true;
  if (!client.introduced && client.current.head.what != command::version) {
    end({errc::protocol, 0}, "the first message is not VERSION");
    return;
  }
  answer_request(dispatch(client.reader.payload()));
  if (!client.introduced) {
    // The refusal is a courtesy: with or without it, this client cannot be served.
    // NOLINTNEXTLINE(bugprone-unused-return-value)
    static_cast<void>(client.replies.flush(*client.link));
    end({errc::protocol, 0}, "the client speaks another version");
  }
}

void server::continue_request() {
  const request& current = connection_->current;
  const bool unmapping =
      current.head.what == command::dma_unmap && current.region_at_stake == nullptr;
  if (current.open && (current.late_answer || unmapping)) {
    answer_request(resume());
  }
}

void server::answer_request(answer given) {
  connection& client = *connection_;
  request& current = client.current;
  if (given.is_later()) {
    return;
  }
  current.open = false;
  if (!current.head.wants_reply()) {
    return;
  }
  result<> queued;
  if (given.errno_value() != 0) {
    queued = client.replies.push(error_header(current.head, given.errno_value()));
  } else if (current.reply_bytes == 0) {
    queued = client.replies.push(reply_header(current.head, 0));
  } else {
    const std::span<const int> fds{&current.reply_fd, current.reply_fd >= 0 ? 1U : 0U};
    queued = client.replies.commit(reply_header(current.head, current.reply_bytes), fds);
  }
  if (!queued) {  // out of descriptors of our own
    queued = client.replies.push(error_header(current.head, errno_of(queued.error())));
    CHECK(queued.has_value());  // the outbox was empty, and this is 16 bytes
  }
}

std::span<std::byte> server::reply_room(std::size_t bytes) noexcept {
  const auto room = connection_->replies.reserve(bytes);
  CHECK(room.size() == bytes);  // requests are only read while the outbox is empty
  connection_->current.reply_bytes = bytes;
  return room;
}

}  // namespace runnel::vfio_user
