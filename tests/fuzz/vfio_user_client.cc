// Goal: no server, whatever it says and when, breaks our client, reaches memory that it was not
// given, or keeps an operation from ending. Method: the input is a program of the client's user
// and of a server that answers rightly unless the program says otherwise, over a channel that cuts
// everything into pieces, on a clock that the program moves.

#include <algorithm>
#include <array>
#include <chrono>
#include <cstring>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "drivers/vfio/user_client.h"
#include "mempool/base/check.h"
#include "mempool/base/poison.h"
#include "tests/fuzz/byte_program.h"
#include "tests/fuzz/files.h"
#include "tests/sim/scripted_peer.h"

namespace runnel::fuzz {
namespace {

using namespace std::chrono_literals;
using sim::byte_vector;
using sim::bytes_of;
using sim::scripted_peer;
using vfio_user::command;
namespace uapi = vfio::uapi;

constexpr std::size_t pages = 16;
constexpr std::size_t page_bytes = 4096;
constexpr std::uint64_t memory_iova = 0x10'0000'0000;

/// What the user maps; the rest is poisoned, and so is what was unmapped.
alignas(page_bytes) std::array<std::byte, pages * page_bytes> memory;

class user_and_peer {
 public:
  explicit user_and_peer(byte_program program)
      : user_and_peer{program, vfio_user::memory_channel_pair(program.take_byte())} {}
  user_and_peer(const user_and_peer&) = delete;
  user_and_peer& operator=(const user_and_peer&) = delete;
  ~user_and_peer() { unpoison(memory); }

  void run() {
    turns(64);  // brings it up, or not
    honest_ = false;
    while (!program_.empty()) {
      step();
    }
    // Each wait has a deadline: when time passes, each operation comes to its end.
    for (int i = 0; i < 8; ++i) {
      now_ += 2s;
      client_->advance(now_);
    }
    for (const ticket each : tickets_) {
      CHECK(client_->take(each).has_value());
    }
  }

 private:
  using ends = std::pair<std::unique_ptr<vfio_user::channel>, std::unique_ptr<vfio_user::channel>>;

  user_and_peer(byte_program program, ends channels)
      : program_{program}, peer_{std::move(channels.second)} {
    static_cast<void>(program_.take_byte());  // the channels' seed
    honest_ = program_.below(4) != 0;
    for (auto& [what, honest] : peer_.answers) {
      honest = [this, honest](scripted_peer& peer, const scripted_peer::message& asked) {
        answer(peer, asked, honest);
      };
    }
    client_.emplace(std::move(channels.first), vfio::client_options{.object = "fuzz"});
    std::memset(memory.data(), 0, memory.size());
    poison(memory);
    for (std::size_t i = 0; i < parts_.size(); ++i) {
      parts_[i] = {.address = memory.data() + i * 4 * page_bytes,
                   .length = 4 * page_bytes,
                   .fd = i == 0 ? -1 : shared_files().ram_fd()};
      parts_[i].iova_offset = memory_iova - reinterpret_cast<std::uintptr_t>(memory.data());
    }
  }

  void turns(unsigned count) {
    for (unsigned i = 0; i < count; ++i) {
      now_ += 10us;
      client_->advance(now_);
      peer_.advance();
      answer_heard();
    }
  }

  void step() {
    switch (program_.below(16)) {
      case 0:
        return keep(client_->region_read(any_region(), any_offset(), program_.below(80)));
      case 1:
        return keep(client_->region_write(any_region(), any_offset(), program_.take_blob()));
      case 2:
        return ignore(client_->region_post(any_region(), any_offset(), program_.take_blob()));
      case 3:
        return keep(client_->reset());
      case 4:
        return keep(client_->device_feature(program_.take<std::uint32_t>(), program_.take_blob()));
      case 5:
        return set_interrupts();
      case 6:
        return map();
      case 7:
        return unmap();
      case 8:
        return map_region();
      case 9:
        return abandon();
      case 10:
        return take();
      case 11:
      case 12:
        return wish_for_memory();
      case 13:
        return say_odd();
      case 14:
        now_ += program_.pick(std::array<nanoseconds, 3>{1ms, 1s, 6s});
        return turns(1);
      default:
        return turns(1 + program_.below(16));
    }
  }

  // What the user does.

  void ignore(const result<>&) {}
  void keep(const result<ticket>& started) {
    if (started) {
      tickets_.push_back(*started);
    }
  }
  [[nodiscard]] std::uint32_t any_region() {
    return program_.pick(std::array<std::uint32_t, 4>{0, 7, 1, 80});
  }
  [[nodiscard]] std::uint64_t any_offset() {
    return program_.rarely(4) ? program_.take_near(0x4000) : program_.take_byte();
  }
  void set_interrupts() {
    std::array<int, 4> fds{};
    for (int& fd : fds) {
      fd = program_.rarely(4) ? -1 : shared_files().event_fd();
    }
    const std::uint32_t start = program_.below(5);
    keep(client_->set_irqs(2, start, std::span{fds}.first(program_.below(5))));
  }
  void map() {
    const region& part = parts_[program_.below(parts_.size())];
    const auto started = client_->map(part);
    if (started) {
      unpoison({part.address, part.length});
    }
    keep(started);
  }
  void unmap() {
    const region& part = parts_[program_.below(parts_.size())];
    const auto started = client_->unmap(part);
    if (started) {
      poison({part.address, part.length});
    }
    keep(started);
  }
  void map_region() {
    const auto mapped =
        client_->map_region(program_.below(3), program_.take_near(0x1000), program_.take_near(0));
    if (!mapped.empty()) {
      mapped.front() = mapped.back();  // both ends can be touched
    }
  }
  void abandon() {
    if (!tickets_.empty()) {
      client_->abandon(tickets_.back());
      tickets_.pop_back();
    }
  }
  void take() {
    std::erase_if(tickets_, [this](ticket each) {
      const auto reply = client_->take(each);
      CHECK(!reply || reply->data.size() <= vfio::device_transport::transfer_bytes_max);
      return reply.has_value();
    });
  }

  // What the server does.

  void answer_heard() {
    for (const scripted_peer::message& asked : std::exchange(peer_.heard, {})) {
      answer(peer_, asked, [](scripted_peer& peer, const scripted_peer::message& question) {
        peer.reply(question, right_reply(question));
      });
    }
  }
  [[nodiscard]] static byte_vector right_reply(const scripted_peer::message& asked) {
    byte_vector payload = asked.payload;
    if (asked.head.what == command::region_read) {
      const auto access = vfio_user::read_wire<vfio_user::region_access_payload>(payload);
      payload.resize(payload.size() + (access ? access->count : 0), std::byte{0x5a});
    } else if (asked.head.what == command::region_write) {
      payload.resize(std::min(payload.size(), sizeof(vfio_user::region_access_payload)));
    } else if (asked.head.what == command::device_set_irqs || asked.head.what == command::dma_map) {
      payload.clear();
    }
    return payload;
  }

  template <class Honest>
  void answer(scripted_peer& peer, const scripted_peer::message& asked, const Honest& honest) {
    if (asked.head.is_reply() || !asked.head.wants_reply()) {
      return;
    }
    switch (!honest_ && program_.rarely(6) ? program_.below(7) : 7) {
      case 0:
        return peer.refuse(asked, program_.below<int>(40));
      case 1:
        return;  // silence
      case 2:
        return peer.reply(asked, blob(), any_fds());
      case 3:
        return distort(peer, asked);
      case 4:
        honest(peer, asked);
        break;  // and once more
      case 5: {
        scripted_peer::message other{.head = asked.head, .payload = {}, .fds = {}};
        other.head.id ^= program_.take<std::uint16_t>();
        other.head.what = command{program_.below<std::uint16_t>(20)};
        return peer.reply(other, right_reply(asked));
      }
      case 6:
        return distort(peer, asked);
      default:
        break;
    }
    honest(peer, asked);
  }

  /// Right in form, with numbers of the program.
  void distort(scripted_peer& peer, const scripted_peer::message& asked) {
    switch (asked.head.what) {
      case command::version: {
        const auto text = program_.take_bytes(program_.take_byte());
        return peer.say_version(asked, program_.below<std::uint16_t>(2),
                                program_.below<std::uint16_t>(3),
                                {reinterpret_cast<const char*>(text.data()), text.size()});
      }
      case command::device_get_info:
        return peer.say_device(asked, program_.take<std::uint16_t>(), program_.below(80));
      case command::device_get_region_info: {
        uapi::region_info region = scripted_peer::region(
            asked.as<uapi::region_info>().index, program_.take_near(0x4000), program_.below(16));
        region.cap_offset = program_.below(4) == 3 ? program_.take_byte() : 32U;
        region.offset = program_.take_near(0);
        byte_vector payload =
            bytes_of(region,
                     uapi::region_info_cap_sparse_mmap{
                         .header = {.id = 1, .version = 1, .next = program_.rarely(4) ? 48U : 0U},
                         .nr_areas = program_.below(4),
                         .reserved = 0},
                     uapi::region_sparse_mmap_area{.offset = program_.take_near(0x1000),
                                                   .size = program_.take_near(0x1000)});
        const byte_vector more = blob();
        payload.insert(payload.end(), more.begin(), more.end());
        return peer.reply(asked, payload, any_fds());
      }
      case command::device_get_irq_info: {
        const auto index = asked.as<uapi::irq_info>().index;
        return peer.reply(asked, bytes_of(uapi::irq_info{.argsz = program_.below(32),
                                                         .flags = program_.below(16),
                                                         .index = index ^ program_.below(2),
                                                         .count = program_.take<std::uint16_t>()}));
      }
      default: {
        byte_vector payload = right_reply(asked);
        payload.resize(program_.take_byte());
        return peer.reply(asked, payload, any_fds());
      }
    }
  }

  [[nodiscard]] byte_vector blob() {
    const auto bytes = program_.take_blob();
    return {bytes.begin(), bytes.end()};
  }
  [[nodiscard]] std::vector<int> any_fds() {
    return std::vector<int>(program_.below(3), program_.pick(shared_files().all()));
  }

  void wish_for_memory() {
    const bool reads = program_.below(2) == 0;
    vfio_user::dma_access_payload wish{.iova = program_.take_near(memory_iova),
                                       .count = program_.below(64)};
    byte_vector data(reads ? 0 : wish.count, std::byte{0xa5});
    if (program_.rarely(8)) {
      wish.count = program_.take_near(0);
    }
    byte_vector payload = bytes_of(wish);
    payload.insert(payload.end(), data.begin(), data.end());
    peer_.say(vfio_user::command_header(program_.take_byte(),
                                        reads ? command::dma_read : command::dma_write,
                                        payload.size(), !program_.rarely(4)),
              payload);
    turns(program_.below(4));
  }

  void say_odd() {
    switch (program_.below(4)) {
      case 0:
        return peer_.leave();
      case 1:
        return peer_.say_raw(blob());
      default: {
        const byte_vector payload = blob();
        vfio_user::header head =
            vfio_user::command_header(program_.below<std::uint16_t>(8),
                                      command{program_.below<std::uint16_t>(20)}, payload.size());
        head.flags = program_.take_byte();
        return peer_.say(head, payload, any_fds());
      }
    }
  }

  byte_program program_;
  scripted_peer peer_;
  std::optional<vfio::user_client> client_;
  std::array<region, 4> parts_;
  std::vector<ticket> tickets_;
  bool honest_ = false;  // the server, until it is asked for more
  instant now_{1s};
};

}  // namespace
}  // namespace runnel::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  runnel::fuzz::user_and_peer{runnel::fuzz::byte_program{{data, size}}}.run();
  return 0;
}
