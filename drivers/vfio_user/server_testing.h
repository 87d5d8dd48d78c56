#pragma once

#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "drivers/vfio/uapi/vfio.h"
#include "drivers/vfio_user/message_reader.h"
#include "drivers/vfio_user/protocol.h"
#include "drivers/vfio_user/server.h"

// What the tests of the server share: a model that records what it is asked, and a client that
// speaks in raw messages. Both live in one thread with the server, over a channel in memory that
// cuts everything into pieces, on a clock that the test moves.
namespace runnel::vfio_user::testing {

using namespace std::chrono_literals;
using bytes = std::vector<std::byte>;

template <class T>
bytes bytes_of(const T& value) {
  const auto wire = wire_bytes(value);
  return {wire.begin(), wire.end()};
}

inline bytes operator+(bytes front, const bytes& back) {
  front.insert(front.end(), back.begin(), back.end());
  return front;
}

inline bytes text_bytes(std::string_view text) {
  const auto raw_text = std::as_bytes(std::span{text});
  return {raw_text.begin(), raw_text.end()};
}

/// A memfd of that size; with whole pages.
inline unique_fd make_memory(std::uint64_t length) {
  unique_fd fd{::memfd_create("client", MFD_CLOEXEC)};
  if (::ftruncate(fd.get(), static_cast<off_t>(length)) != 0) {
    return unique_fd{};
  }
  return fd;
}

/// Descriptors this process has open.
inline std::size_t open_descriptors() {
  const std::filesystem::directory_iterator all{"/proc/self/fd"};
  return static_cast<std::size_t>(std::distance(begin(all), end(all)));
}

/// While it exists this process can open nothing more.
class no_more_descriptors {
 public:
  no_more_descriptors() {
    ::getrlimit(RLIMIT_NOFILE, &before_);
    const unique_fd next{::memfd_create("next", MFD_CLOEXEC)};
    const rlimit used{.rlim_cur = static_cast<rlim_t>(next.get()), .rlim_max = before_.rlim_max};
    ::setrlimit(RLIMIT_NOFILE, &used);
  }
  no_more_descriptors(const no_more_descriptors&) = delete;
  no_more_descriptors& operator=(const no_more_descriptors&) = delete;
  ~no_more_descriptors() { ::setrlimit(RLIMIT_NOFILE, &before_); }

 private:
  rlimit before_{};
};

class recording_model final : public device_model {
 public:
  static constexpr std::uint32_t registers_bytes = 0x4000;
  static constexpr std::uint32_t vectors = 33;

  recording_model() : doorbells{make_memory(registers_bytes)} {
    using namespace vfio::uapi;
    layout.flags = device_flags::pci | device_flags::reset;
    layout.regions.resize(8);
    layout.regions[0] = {.flags = region_flags::read | region_flags::write,
                         .size = registers_bytes,
                         .file_offset = 0,
                         .fd = doorbells.get(),
                         .areas = {{.offset = 0x1000, .length = 0x1000}}};
    layout.regions[5].flags = region_flags::read;
    layout.regions[5].size = 0x1000;
    layout.regions[7].flags = region_flags::read | region_flags::write;
    layout.regions[7].size = 0x1000;
    layout.irqs.resize(3);
    layout.irqs[0] = {.flags = irq_flags::eventfd | irq_flags::maskable, .count = 1};
    layout.irqs[2] = {.flags = irq_flags::eventfd | irq_flags::noresize, .count = vectors};
  }

  const device_layout& init() override { return layout; }
  void open_device(client_memory& memory) override {
    client = &memory;
    log.emplace_back("open");
  }
  bool close_device() override {
    log.emplace_back("close");
    return quiet;
  }
  answer read(request_id id, std::uint32_t region, std::uint64_t offset,
              std::span<std::byte> out) override {
    last_read = out;
    std::ranges::copy(std::span{registers}.subspan(offset, out.size()), out.begin());
    return say("read", id, region);
  }
  answer write(request_id id, std::uint32_t region, std::uint64_t offset,
               std::span<const std::byte> in) override {
    std::ranges::copy(in, registers.begin() + static_cast<std::ptrdiff_t>(offset));
    return say("write", id, region);
  }
  answer set_irq_triggers(std::uint32_t index, std::uint32_t start,
                          std::span<unique_fd> eventfds) override {
    for (unique_fd& fd : eventfds) {
      triggers[{index, start++}] = std::move(fd);
    }
    log.emplace_back("triggers");
    return irq_answer;
  }
  void disable_irqs(std::uint32_t index) override {
    std::erase_if(triggers, [&](const auto& item) { return item.first.first == index; });
    log.emplace_back("disable");
  }
  answer trigger_irqs(const vfio::irq_vectors& which) override {
    log.emplace_back("trigger " + std::to_string(which.index) + " " + std::to_string(which.start) +
                     " " + std::to_string(which.count));
    return irq_answer;
  }
  void mask_irq(std::uint32_t index, bool masked) override {
    log.emplace_back((masked ? "mask " : "unmask ") + std::to_string(index));
  }
  answer reset(request_id id) override { return say("reset", id, 0); }
  answer dma_map(request_id id, const region& added) override {
    last_map = &added;
    return say("map", id, 0);
  }
  answer dma_unmap(request_id id, const region& leaving) override {
    last_unmap = &leaving;
    return say("unmap", id, 0);
  }

  device_layout layout;
  unique_fd doorbells;
  std::vector<std::byte> registers = std::vector<std::byte>(registers_bytes);
  std::map<std::pair<std::uint32_t, std::uint32_t>, unique_fd> triggers;
  client_memory* client = nullptr;
  const region* last_map = nullptr;
  const region* last_unmap = nullptr;
  std::span<std::byte> last_read;
  std::vector<std::string> log;
  std::vector<request_id> owed;           // requests answered with `later`
  std::map<std::string, answer> answers;  // by operation; absent: ok
  answer irq_answer = answer::ok();
  bool quiet = true;

 private:
  answer say(const std::string& operation, request_id id, std::uint32_t) {
    log.push_back(operation);
    const auto chosen = answers.find(operation);
    const answer given = chosen == answers.end() ? answer::ok() : chosen->second;
    if (given.is_later()) {
      owed.push_back(id);
    }
    return given;
  }
};

struct message {
  header head;
  bytes payload;
  std::vector<unique_fd> fds;

  template <class T>
  [[nodiscard]] T as() const {
    return *read_wire<T>(payload);
  }
  /// 0, or the errno of an error reply.
  [[nodiscard]] int errno_value() const {
    return head.is_error() ? static_cast<int>(head.error_number) : 0;
  }
};

/// A server with a client at its other end.
class hosted_model {
 public:
  explicit hosted_model(std::uint64_t seed, server_options options = {})
      : served{std::move(*server::create(model, std::move(options)))}, seed_{seed} {
    connect();
  }
  ~hosted_model() {
    model.quiet = true;
    leave();
    turn(2);
  }
  hosted_model(const hosted_model&) = delete;
  hosted_model& operator=(const hosted_model&) = delete;

  void connect() { connect(memory_channel_pair(seed_++)); }
  void connect(std::pair<std::unique_ptr<channel>, std::unique_ptr<channel>> ends) {
    link_ = std::move(ends.second);
    reader_ = std::make_unique<message_reader>();
    served->attach(std::move(ends.first));
  }
  void leave() { link_.reset(); }

  /// Lets the server run; time stands still unless `step` is given.
  void turn(unsigned times = 50, nanoseconds step = 0ns) {
    for (unsigned i = 0; i < times; ++i) {
      now += step;
      next_call = served->advance(now);
    }
  }

  /// Sends bytes as they are, the server running beside. False: it does not take them.
  bool send_bytes(const bytes& wire, std::span<const int> fds = {}, unsigned patience = 100'000) {
    std::span<const std::byte> left = wire;
    for (unsigned attempt = 0; attempt < patience && !left.empty(); ++attempt) {
      if (!offer(left, fds)) {
        return false;
      }
      turn(1);
    }
    return left.empty();
  }

  /// The same, but the server does not run meanwhile.
  void send_bytes_at_once(const bytes& wire) {
    std::span<const std::byte> left = wire;
    std::span<const int> no_fds;
    while (!left.empty() && offer(left, no_fds)) {
    }
  }

  static bytes command_bytes(std::uint16_t id, command what, const bytes& payload,
                             bool wants_reply = true) {
    return bytes_of(command_header(id, what, payload.size(), wants_reply)) + payload;
  }

  bool send(command what, const bytes& payload = {}, std::span<const int> fds = {}) {
    return send_bytes(command_bytes(next_id_++, what, payload), fds);
  }

  /// What the server says next; empty when it stays silent for that many turns.
  std::optional<message> receive(unsigned patience = 10'000) {
    for (unsigned attempt = 0; attempt < patience; ++attempt) {
      const auto whole = reader_->receive(*link_);
      if (!whole) {
        return std::nullopt;
      }
      if (*whole) {
        message got{.head = reader_->head(),
                    .payload = {reader_->payload().begin(), reader_->payload().end()},
                    .fds = {}};
        for (std::size_t i = 0; i < reader_->fds().count; ++i) {
          got.fds.push_back(std::move(reader_->fds().fds[i]));
        }
        return got;
      }
      turn(1);
    }
    return std::nullopt;
  }
  /// Enough turns for any answer that is not owed by the model.
  std::optional<message> receive_soon() { return receive(100); }

  /// One command and its answer.
  message call(command what, const bytes& payload = {}, std::span<const int> fds = {}) {
    send(what, payload, fds);
    auto got = receive();
    return got ? std::move(*got)
               : message{.head = {.error_number = ENOLINK}, .payload = {}, .fds = {}};
  }

  message introduce() {
    return call(command::version, bytes_of(version_numbers{.major = 0, .minor = 1}));
  }

  message map(std::uint64_t iova, std::uint64_t size, int fd, std::uint64_t offset = 0,
              std::uint32_t flags = 3) {
    const dma_map_payload payload{
        .argsz = 32, .flags = flags, .offset = offset, .iova = iova, .size = size};
    return call(command::dma_map, bytes_of(payload),
                fd >= 0 ? std::span<const int>{&fd, 1} : std::span<const int>{});
  }
  message unmap(std::uint64_t iova, std::uint64_t size, std::uint32_t flags = 0) {
    return call(command::dma_unmap, bytes_of(dma_unmap_payload{
                                        .argsz = 24, .flags = flags, .iova = iova, .size = size}));
  }

  recording_model model;
  std::unique_ptr<server> served;
  instant now{1s};
  instant next_call = never;

 private:
  /// False: the server stopped listening.
  bool offer(std::span<const std::byte>& left, std::span<const int>& fds) {
    const auto sent = link_->send(left, fds);
    if (!sent) {
      return false;
    }
    if (*sent != 0) {
      fds = {};
      left = left.subspan(*sent);
    }
    return true;
  }

  std::uint64_t seed_;
  std::unique_ptr<channel> link_;
  std::unique_ptr<message_reader> reader_;
  std::uint16_t next_id_ = 0xfff0;  // wraps early
};

}  // namespace runnel::vfio_user::testing
