#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "drivers/vfio/uapi/vfio.h"
#include "drivers/vfio_user/channel.h"
#include "drivers/vfio_user/message_reader.h"
#include "drivers/vfio_user/outbox.h"
#include "drivers/vfio_user/protocol.h"
#include "mempool/base/unique_fd.h"

namespace runnel::sim {

using byte_vector = std::vector<std::byte>;

template <class... Parts>
[[nodiscard]] byte_vector bytes_of(const Parts&... parts) {
  byte_vector bytes;
  const auto append = [&bytes](std::span<const std::byte> part) {
    bytes.insert(bytes.end(), part.begin(), part.end());
  };
  (append(vfio_user::wire_bytes(parts)), ...);
  return bytes;
}

/// A file of `bytes` zeros.
[[nodiscard]] inline unique_fd make_file(std::size_t bytes) {
  unique_fd file{::memfd_create("region", MFD_CLOEXEC)};
  return ::ftruncate(file.get(), static_cast<off_t>(bytes)) == 0 ? std::move(file) : unique_fd{};
}

/// A vfio-user server that says what a test tells it to say, true or not. By default it introduces
/// a small device (BAR0 of 16 KiB whose second page may be mapped, 256 bytes of configuration
/// space, four vectors of MSI-X) and keeps every other message for the test.
class scripted_peer {
 public:
  struct message {
    vfio_user::header head;
    byte_vector payload;
    std::vector<unique_fd> fds;

    template <class T>
    [[nodiscard]] T as() const {
      return vfio_user::read_wire<T>(payload).value();
    }
  };
  using answer = std::function<void(scripted_peer& peer, const message& asked)>;

  static constexpr std::uint32_t bar_bytes = 0x4000;
  static constexpr std::uint32_t config_bytes = 256;
  static constexpr std::uint32_t vectors = 4;

  explicit scripted_peer(std::unique_ptr<vfio_user::channel> channel)
      : channel_{std::move(channel)} {
    using vfio_user::command;
    answers[command::version] = [](auto& peer, auto& asked) { peer.say_version(asked, 0, 1); };
    answers[command::device_get_info] = [](auto& peer, auto& asked) {
      peer.say_device(asked, 9, 5);
    };
    answers[command::device_get_region_info] = &scripted_peer::introduce_region;
    answers[command::device_get_irq_info] = &scripted_peer::introduce_irq;
  }

  /// What is answered at once; other messages go to `heard`.
  std::map<vfio_user::command, answer> answers;
  std::vector<message> heard;
  bool client_left = false;
  unique_fd bar_file = make_file(bar_bytes);

  /// Sends what is possible now.
  void flush() {
    static_cast<void>(outbox_.flush(*channel_));  // a client that left is for the test to see
  }

  /// Sends and receives what is possible now.
  void advance() {
    if (!channel_) {
      return;
    }
    flush();
    auto got = reader_.receive(*channel_);
    for (; got && *got; got = reader_.receive(*channel_)) {
      message received{.head = reader_.head(),
                       .payload = {reader_.payload().begin(), reader_.payload().end()},
                       .fds = {}};
      for (std::size_t i = 0; i < reader_.fds().count; ++i) {
        received.fds.push_back(std::move(reader_.fds().fds[i]));
      }
      const auto found = answers.find(received.head.what);
      if (found != answers.end()) {
        found->second(*this, received);
      } else {
        heard.push_back(std::move(received));
      }
      if (!channel_) {
        return;
      }
    }
    client_left = !got;
    flush();
    if (outbox_.empty() && !raw_.empty()) {
      const auto sent = channel_->send(raw_, {});
      raw_.erase(raw_.begin(), raw_.begin() + static_cast<std::ptrdiff_t>(sent.value_or(0)));
    }
  }

  /// Bytes that need not be a message, after all messages.
  void say_raw(const byte_vector& bytes) { raw_.insert(raw_.end(), bytes.begin(), bytes.end()); }
  void say(const vfio_user::header& head, const byte_vector& payload = {},
           std::vector<int> fds = {}) {
    static_cast<void>(outbox_.push(head, payload, {}, fds));
  }
  void reply(const message& asked, const byte_vector& payload = {}, std::vector<int> fds = {}) {
    say(vfio_user::reply_header(asked.head, payload.size()), payload, std::move(fds));
  }
  void refuse(const message& asked, int error_number) {
    say(vfio_user::error_header(asked.head, error_number));
  }
  /// The end of the stream, as when a process dies.
  void leave() { channel_.reset(); }

  void say_version(const message& asked, std::uint16_t major, std::uint16_t minor,
                   const std::string& text = {}) {
    byte_vector payload = bytes_of(vfio_user::version_numbers{.major = major, .minor = minor});
    if (!text.empty()) {
      const auto json = std::as_bytes(std::span{text.c_str(), text.size() + 1});
      payload.insert(payload.end(), json.begin(), json.end());
    }
    reply(asked, payload);
  }
  void say_device(const message& asked, std::uint32_t regions, std::uint32_t irqs) {
    reply(asked, bytes_of(vfio_user::device_info_payload{
                     .argsz = 16,
                     .flags = vfio::uapi::device_flags::pci | vfio::uapi::device_flags::reset,
                     .num_regions = regions,
                     .num_irqs = irqs}));
  }
  void say_region(const message& asked, const vfio::uapi::region_info& region) {
    reply(asked, bytes_of(region));
  }

  [[nodiscard]] static vfio::uapi::region_info region(std::uint32_t index, std::uint64_t size,
                                                      std::uint32_t flags = 3) {
    return {
        .argsz = 32, .flags = flags, .index = index, .cap_offset = 0, .size = size, .offset = 0};
  }

 private:
  static void introduce_region(scripted_peer& peer, const message& asked) {
    namespace uapi = vfio::uapi;
    const auto index = asked.as<uapi::region_info>().index;
    if (index != 0) {
      peer.say_region(asked, region(index, index == 7 ? config_bytes : 0));
      return;
    }
    uapi::region_info bar = region(0, bar_bytes, 0xf);
    bar.argsz = 64;
    bar.cap_offset = 32;
    const uapi::region_info_cap_sparse_mmap sparse{
        .header = {.id = uapi::region_caps::sparse_mmap, .version = 1, .next = 0},
        .nr_areas = 1,
        .reserved = 0};
    const uapi::region_sparse_mmap_area area{.offset = 0x1000, .size = 0x1000};
    peer.reply(asked, bytes_of(bar, sparse, area), {peer.bar_file.get()});
  }

  static void introduce_irq(scripted_peer& peer, const message& asked) {
    const auto index = asked.as<vfio::uapi::irq_info>().index;
    peer.reply(asked, bytes_of(vfio::uapi::irq_info{.argsz = 16,
                                                    .flags = vfio::uapi::irq_flags::eventfd,
                                                    .index = index,
                                                    .count = index == 2 ? vectors : 0}));
  }

  std::unique_ptr<vfio_user::channel> channel_;
  byte_vector raw_;
  vfio_user::message_reader reader_;
  vfio_user::outbox outbox_{2 * vfio_user::message_bytes_max};
};

}  // namespace runnel::sim
